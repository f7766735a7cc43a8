// Command metrics-door runs an exporter that listens on loopback, and shows its
// metrics to everybody else, and nothing but these.
//
//	metrics-door -listen=:9121 -metrics=http://127.0.0.1:19121/metrics -- exporter -flag...
//
// Redis' exporter takes targets from queries (/scrape?target=), so that whoever
// reaches it has it connect anywhere. Debian's version (1.45) has no flag against
// that; upstream's since 1.83 has.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

const (
	path     = "/metrics"
	headTime = 10 * time.Second
	idleTime = 2 * time.Minute
	waitTime = 10 * time.Second // for the exporter's end
)

// door passes GET /metrics on, without its query and without headers that an exporter has no use for.
func door(metrics *url.URL) http.Handler {
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		target := *metrics
		r.Out.URL, r.Out.Host = &target, target.Host
		asked := http.Header{}
		for _, name := range []string{"Accept", "Accept-Encoding"} {
			asked[name] = r.In.Header[name]
		}
		r.Out.Header = asked
	}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if (r.Method != http.MethodGet && r.Method != http.MethodHead) || r.URL.Path != path {
			http.NotFound(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	})
}

func run() error {
	listen := flag.String("listen", "", "address to serve at")
	metrics := flag.String("metrics", "", "where the exporter shows its metrics, on loopback")
	flag.Parse()
	target, err := url.Parse(*metrics)
	if err != nil {
		return fmt.Errorf("-metrics: %w", err)
	}
	if *listen == "" || target.Host == "" || flag.NArg() == 0 {
		return errors.New("-listen, -metrics and the exporter's command are needed")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The exporter ends with the thread that has started it.
	runtime.LockOSThread()
	exporter := exec.CommandContext(ctx, flag.Arg(0), flag.Args()[1:]...) //nolint:gosec // the pod's own command
	exporter.Stdout, exporter.Stderr = os.Stdout, os.Stderr
	exporter.Cancel = func() error { return exporter.Process.Signal(syscall.SIGTERM) }
	exporter.WaitDelay = waitTime
	exporter.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := exporter.Start(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	server := &http.Server{
		Addr: *listen, Handler: door(target), ReadHeaderTimeout: headTime, IdleTimeout: idleTime,
	}
	ended := make(chan error, 2)
	go func() { ended <- server.ListenAndServe() }()
	go func() { ended <- exporter.Wait() }()
	err = <-ended
	if ctx.Err() != nil {
		return nil
	}
	// Neither is of use without the other: the kubelet starts both again.
	_ = exporter.Process.Kill()
	return fmt.Errorf("ended: %w", errors.Join(err, errors.New("the exporter and its door end together")))
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "metrics-door:", err)
		os.Exit(1)
	}
}
