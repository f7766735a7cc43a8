package main

import (
	"context"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
)

// The benchmark needs a folder with a signed bundle and its key.pem: tests/perf/bench_opa.py makes both.
const folderVariable = "OPA_BENCH"

type everybody struct{ caller }

func (e *everybody) find(string) *caller { return &e.caller }
func (*everybody) isReady() bool         { return true }

// BenchmarkCheck is the CPU time of one decision in the server, without gRPC.
func BenchmarkCheck(b *testing.B) {
	place := os.Getenv(folderVariable)
	if place == "" {
		b.Skip("set " + folderVariable)
	}
	registry := prometheus.NewRegistry()
	s := settings{bundle: place, key: place + "/key.pem", copies: b.TempDir(), poll: time.Hour, limit: time.Minute}
	engine, err := newEngine(context.Background(), s, registry)
	if err != nil {
		b.Fatal(err)
	}
	defer engine.stop()
	select {
	case <-engine.ready:
	case <-time.After(time.Minute):
		b.Fatal("no bundle is in force")
	}
	known := &everybody{caller{Tenant: "acme", ID: "bench", Scopes: []string{"inference"}}}
	log := newLog(io.Discard, registry)
	defer log.close()
	a := newAuthorizer(engine, known, s.limit, log, nil, registry)
	for _, one := range []struct{ name, method, path string }{
		{"exact", "GET", "/v1/models"},
		{"template", "GET", "/v1/models/demo"},
		{"denied", "GET", "/v1/tenants"},
	} {
		asked := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{}},
			Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
				Method: one.method, Path: one.path,
				Headers: map[string]string{"authorization": "Bearer key", "x-request-id": "7c8f1f40-0000-4000-8000-000000000000"},
			}},
		}}
		b.Run(one.name, func(b *testing.B) {
			b.ReportAllocs()
			begun := spent(b)
			for b.Loop() {
				if _, err := a.Check(context.Background(), asked); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(spent(b)-begun)/float64(b.N)/1000, "CPU-us/op")
		})
	}
}

// spent is the CPU time of the process, which does not depend on other work on the machine as time does.
func spent(b *testing.B) int64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return used.Utime.Nano() + used.Stime.Nano()
}
