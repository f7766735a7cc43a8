package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

const (
	headTime = 5 * time.Second
	stopTime = 10 * time.Second
	// Connections end after this time, so that Envoy spreads its calls over new replicas, too.
	connectionAge = 10 * time.Minute
	mostCalls     = 1000
	// Collections of garbage cost time in decisions, and the heap is small. GOMEMLIMIT bounds it.
	gcPercent = 400
	// Goroutines that serve calls one after the other: their stacks have grown already.
	workers = 16
)

// settings of the server. The password comes from a file: arguments are visible to other processes.
type settings struct {
	bundle, key, copies string
	grpc, http          string
	poll, limit         time.Duration
	nats, bucket, user  string
	passwordFile        string
	s3Region            string
	kafka               string
	kafkaAuthority      string
	kafkaPasswordFile   string
}

func readSettings(arguments []string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	flags.StringVar(&s.bundle, "bundle", "", "folder with bundle.tar.gz, or its http(s) URL")
	flags.StringVar(&s.key, "key", "", "PEM file with the public key of the bundle's signature")
	flags.StringVar(&s.copies, "copy", "", "folder that keeps the last good bundle")
	flags.StringVar(&s.grpc, "grpc", ":9191", "address of ext_authz")
	flags.StringVar(&s.http, "http", ":8080", "address of health and metrics")
	flags.DurationVar(&s.poll, "poll", 3*time.Second, "time between two looks for a new bundle")
	flags.DurationVar(&s.limit, "limit", 50*time.Millisecond, "longest time of a decision")
	flags.StringVar(&s.nats, "nats", "", "URL of NATS with the directory of keys; empty: there is no directory")
	flags.StringVar(&s.bucket, "bucket", "tenants", "key-value bucket of the directory")
	flags.StringVar(&s.user, "user", "opa", "login at NATS and Kafka")
	flags.StringVar(&s.passwordFile, "nats-password-file", "", "file with the password of the login; empty: none")
	flags.StringVar(&s.s3Region, "s3-region", "", "sign requests for the bundle for S3 in this region (AWS_* variables)")
	flags.StringVar(&s.kafka, "kafka", "", "host:port of Kafka, which receives decisions for Audit; empty: none does")
	flags.StringVar(&s.kafkaAuthority, "kafka-authority", "", "PEM file with the brokers' CA certificate; empty: no TLS")
	flags.StringVar(&s.kafkaPasswordFile, "kafka-password-file", "", "file with the password of the login, with TLS")
	if err := flags.Parse(arguments); err != nil {
		return s, err
	}
	if s.bundle == "" || s.key == "" || s.copies == "" || flags.NArg() > 0 {
		return s, errors.New("-bundle, -key and -copy are needed, and no further arguments")
	}
	return s, nil
}

func passwordIn(file string) (string, error) {
	content, err := os.ReadFile(file)
	return strings.TrimSpace(string(content)), err
}

// serve answers until the context ends.
func serve(ctx context.Context, arguments []string) error {
	s, err := readSettings(arguments)
	if err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	engine, err := newEngine(ctx, s, registry)
	if err != nil {
		return err
	}
	defer engine.stop()
	var known directory = noDirectory{}
	if s.nats != "" {
		known = follow(ctx, s, registry)
	}
	log := newLog(os.Stdout, registry)
	defer log.close()
	var sent *events
	if s.kafka != "" {
		if sent, err = newEvents(s, registry); err != nil {
			return err
		}
		defer sent.close()
	}
	ready := func() error {
		switch {
		case !engine.isReady():
			return errNoBundle
		case s.nats != "" && !known.isReady():
			return errNoDirectory
		}
		return nil
	}
	decisions := newAuthorizer(engine, known, s.limit, log, sent, registry)
	listener, err := net.Listen("tcp", s.grpc)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := grpc.NewServer(
		grpc.MaxConcurrentStreams(mostCalls), grpc.NumStreamWorkers(workers),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: connectionAge, MaxConnectionAgeGrace: stopTime}),
	)
	authv3.RegisterAuthorizationServer(server, decisions)
	status := &http.Server{Addr: s.http, Handler: statusPages(ready, registry), ReadHeaderTimeout: headTime}
	ended := make(chan error, 2)
	go func() { ended <- server.Serve(listener) }()
	go func() { ended <- status.ListenAndServe() }()
	select {
	case err = <-ended:
		server.Stop()
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	go server.GracefulStop()
	err = status.Shutdown(last)
	server.Stop()
	return err
}

// statusPages are liveness, readiness and metrics. A server is ready once a bundle is in force and all keys have been
// received: before, it cannot decide.
func statusPages(ready func() error, registry *prometheus.Registry) http.Handler {
	pages := http.NewServeMux()
	pages.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	pages.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	pages.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return pages
}
