// Command yaml is Pulumi's own language host for YAML programs. The released host does not answer Link, which
// `pulumi package add` has called since; this one does, and takes schemas from the engine, which has loaded them.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/pulumi/pulumi-yaml/pkg/server"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
)

// checkEvery is the time within which the host ends after its engine has been killed.
const checkEvery = 5 * time.Second

type host struct {
	pulumirpc.LanguageRuntimeServer
}

// Link has nothing to write: a YAML program names a package by the first part of a resource's type.
func (host) Link(_ context.Context, request *pulumirpc.LinkRequest) (*pulumirpc.LinkResponse, error) {
	var lines []string
	for _, linked := range request.Packages {
		lines = append(lines, fmt.Sprintf("Types of the package begin with `%s:`.", linked.Package.GetName()))
	}
	return &pulumirpc.LinkResponse{ImportInstructions: strings.Join(lines, "\n")}, nil
}

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve() error {
	tracing := flag.String("tracing", "", "accepted, as every language host is started with it; nothing is traced")
	flag.String("root", "", "accepted for the same reason")
	flag.Parse()
	engine := flag.Arg(0)
	running, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if engine != "" {
		if err := rpcutil.Healthcheck(running, engine, checkEvery, stop); err != nil {
			return err
		}
	}
	ended := make(chan bool)
	go func() {
		<-running.Done()
		close(ended)
	}()
	served, err := rpcutil.ServeWithOptions(rpcutil.ServeOptions{
		Cancel: ended,
		Init: func(to *grpc.Server) error {
			yaml := server.NewLanguageHost(engine, *tracing, true)
			pulumirpc.RegisterLanguageRuntimeServer(to, host{yaml})
			return nil
		},
	})
	if err != nil {
		return err
	}
	fmt.Println(served.Port)
	return <-served.Done
}
