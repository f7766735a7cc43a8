// Command inference-sim is llm-d's simulator of a vLLM server: the OpenAI API
// and vLLM's metrics, without a model or a GPU.
//
// The simulator answers with random sentences. An adapter in front of it makes
// answers fit what a request asks for: JSON of a schema, calls of tools, the
// Responses API. The simulator is asked for each of them, so that its latencies
// and metrics hold; it listens in memory only. Callers have to show the key in
// the file that MODEL_KEY_FILE names, as at our vLLM image.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"
	"github.com/valyala/fasthttp/fasthttputil"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/llm-d/llm-d-inference-sim/pkg/common"
	"github.com/llm-d/llm-d-inference-sim/pkg/communication"
	simulator "github.com/llm-d/llm-d-inference-sim/pkg/llm-d-inference-sim"
)

const (
	drainTime = 30 * time.Second
	headTime  = 10 * time.Second
)

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	logger := klog.FromContext(ctx)
	config, err := common.ParseCommandParamsAndLoadConfig()
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	key, err := keyOfCallers()
	if err != nil {
		return err
	}
	simulators, err := simulator.Start(ctx, config, logger)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range simulators {
		group.Go(func() error { return serve(ctx, key, s, communication.New(logger, s)) })
	}
	return group.Wait()
}

// serve runs one simulator behind its adapter until the context ends; what is under way is answered.
func serve(ctx context.Context, key string, s *simulator.VllmSimulator, c *communication.Communication) error {
	inner := fasthttputil.NewInmemoryListener()
	metrics := fasthttpadaptor.NewFastHTTPHandler(
		promhttp.HandlerFor(s.Context.MetricsRegistry(), promhttp.HandlerOpts{}))
	handlers := map[string]fasthttp.RequestHandler{
		"POST /v1/chat/completions": c.HandleChatCompletions,
		"POST /v1/completions":      c.HandleTextCompletions,
		"POST /tokenize":            c.HandleTokenize,
		"GET /v1/models":            c.HandleModels,
		"GET /metrics":              metrics,
		"GET /health":               c.HandleHealth,
		"GET /health/ready":         c.HandleHealthReady,
		"GET /ready":                c.HandleReady,
	}
	simulated := &fasthttp.Server{
		Handler: func(request *fasthttp.RequestCtx) {
			if handler, ok := handlers[string(request.Method())+" "+string(request.Path())]; ok {
				handler(request)
				return
			}
			request.Error("not found", fasthttp.StatusNotFound)
		},
		MaxRequestBodySize: maxBodyBytes,
	}
	outer, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", fmt.Sprintf(":%d", s.Context.Config().Port))
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	front := newFront(func(context.Context, string, string) (net.Conn, error) { return inner.Dial() }) //nolint:wrapcheck
	server := &http.Server{
		Handler: door(key, front),
		// A body may take as long as its answer: only heads have a limit.
		ReadHeaderTimeout: headTime,
	}
	failed := make(chan error, 2)
	go func() { failed <- simulated.Serve(inner) }()
	go func() { failed <- server.Serve(outer) }()
	select {
	case err = <-failed:
	case <-ctx.Done():
		err = nil
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	err = errors.Join(err, server.Shutdown(ending))
	s.Stop()
	_ = inner.Close()
	return err
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "inference-sim:", err)
		os.Exit(1)
	}
}
