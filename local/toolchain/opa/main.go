// Command opa decides about requests for the platform's gateway: Envoy's
// ext_authz over gRPC, with policies in a signed bundle. It also tests policies and
// prints single decisions, with the same engine.
//
//	opa serve -bundle=/etc/opa -key=/etc/opa/key.pem -copy=/data
//	opa test -threshold=95 policies/rego
//	opa decide -bundle=bundle.tar.gz < inputs.jsonl
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

var commands = map[string]func(context.Context, []string) error{
	"serve":  serve,
	"test":   test,
	"decide": decide,
}

func run() error {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		return errors.New("the first argument must be serve, test or decide")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return commands[os.Args[1]](ctx, os.Args[2:])
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "opa:", err)
		os.Exit(1)
	}
}
