// Command gateway is Versity's S3 gateway over a plain file system.
//
//	gateway -secret-file=/run/secret -port=:7070 /data/buckets
//
// Versity's own command takes the root account's secret from an environment
// variable or an argument only, where other processes can read it. This command
// reads it from a file. All other settings are those of Versity's command.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

// Defaults of Versity's command, cmd/versitygw and cmd/internal/gwcli in its repository.
const (
	maxConnections    = 250000
	maxRequests       = 100000
	multipartMaxParts = 10000
	accountsTTL       = 120  // seconds
	accountsPrune     = 3600 // seconds
	actions           = 5000
	copyThreshold     = 5 << 30
	folderMode        = 0o755
)

// Version is the pinned version of Versity's module.
var Version = "git"

func run() error {
	cfg := embedgw.Config{
		MaxConnections: maxConnections, MaxRequests: maxRequests,
		AdminMaxConnections: maxConnections, AdminMaxRequests: maxRequests,
		MultipartMaxParts: multipartMaxParts, IAMCacheTTL: accountsTTL, IAMCachePrune: accountsPrune,
		Version: Version,
	}
	var secretFile, port string
	version := flag.Bool("version", false, "print the version")
	flag.StringVar(&cfg.RootUserAccess, "access", "", "name of the root account")
	flag.StringVar(&secretFile, "secret-file", "", "file with the secret of the root account")
	flag.StringVar(&port, "port", ":7070", "address to serve at")
	flag.StringVar(&cfg.HealthPath, "health", "", "path of the health check")
	flag.StringVar(&cfg.IAMDir, "iam-dir", "", "folder with the accounts")
	flag.StringVar(&cfg.MetricsService, "metrics-service-name", "", "name of the service in metrics")
	flag.StringVar(&cfg.StatsdServers, "metrics-statsd-servers", "", "addresses of statsd")
	flag.BoolVar(&cfg.Quiet, "quiet", false, "do not log requests")
	flag.Parse()
	if *version {
		fmt.Println("Version:", Version)
		return nil
	}
	if flag.NArg() != 1 {
		return errors.New("name the folder of the buckets")
	}
	secret, err := os.ReadFile(secretFile)
	if err != nil {
		return fmt.Errorf("-secret-file: %w", err)
	}
	cfg.RootUserSecret = strings.TrimSpace(string(secret))
	if cfg.RootUserSecret == "" {
		return fmt.Errorf("-secret-file: %s is empty", secretFile)
	}
	cfg.Ports = []string{port}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := (meta.XattrMeta{}).Test(flag.Arg(0)); err != nil {
		return fmt.Errorf("extended attributes: %w", err)
	}
	folder, err := posix.New(flag.Arg(0), meta.XattrMeta{}, posix.PosixOpts{
		Concurrency: actions, CopyObjectThreshold: copyThreshold, NewDirPerm: folderMode,
	})
	if err != nil {
		return fmt.Errorf("folder of the buckets: %w", err)
	}
	if err := embedgw.RunVersityGW(ctx, folder, &cfg); err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	return nil
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
