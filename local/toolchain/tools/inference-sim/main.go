// Command inference-sim is llm-d's simulator of a vLLM server: the OpenAI API
// and vLLM's metrics, without a model or a GPU.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/llm-d/llm-d-inference-sim/pkg/common"
	"github.com/llm-d/llm-d-inference-sim/pkg/communication"
	simulator "github.com/llm-d/llm-d-inference-sim/pkg/llm-d-inference-sim"
)

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	logger := klog.FromContext(ctx)
	config, err := common.ParseCommandParamsAndLoadConfig()
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	simulators, err := simulator.Start(ctx, config, logger)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range simulators {
		group.Go(func() error { return communication.Start(ctx, logger, s) })
	}
	return group.Wait()
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "inference-sim:", err)
		os.Exit(1)
	}
}
