package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	keyPrefix  = "k."
	retryDelay = 500 * time.Millisecond
	askTime    = 5 * time.Second
)

// caller is the holder of an API key, as User publishes it.
type caller struct {
	Tenant  string   `json:"tenant"`
	ID      string   `json:"id"`
	User    string   `json:"user"`
	Scopes  []string `json:"scopes"`
	Expires *float64 `json:"expires"`

	once  sync.Once
	value ast.Value
}

// MarshalJSON is the caller as the log of decisions shows it: without the user.
func (c *caller) MarshalJSON() ([]byte, error) {
	return json.Marshal(document{"tenant": c.Tenant, "id": c.ID, "scopes": c.Scopes})
}

// directory finds callers by the SHA-256 of their key.
type directory interface {
	find(digest string) *caller
	// isReady is whether all keys have been received once. They stay valid while NATS is away, as in the services.
	isReady() bool
}

type noDirectory struct{}

func (noDirectory) find(string) *caller { return nil }
func (noDirectory) isReady() bool       { return false }

// following is a directory in memory, which follows a key-value bucket of NATS.
type following struct {
	keys  sync.Map
	ready atomic.Bool
	away  prometheus.Gauge
}

func follow(ctx context.Context, s settings, registry *prometheus.Registry) *following {
	f := &following{away: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "opa_directory_away", Help: "Whether changes of API keys cannot be received: 1 or 0.",
	})}
	registry.MustRegister(f.away)
	f.away.Set(1)
	go func() {
		for ctx.Err() == nil {
			f.watch(ctx, s)
			f.away.Set(1)
			select {
			case <-ctx.Done():
			case <-time.After(retryDelay):
			}
		}
	}()
	return f
}

// watch follows the bucket until the connection is lost. A new connection reads all keys again, so that none is missed.
func (f *following) watch(ctx context.Context, s settings) {
	lost := make(chan struct{})
	var once sync.Once
	options := []nats.Option{
		nats.Name(s.user), nats.CustomInboxPrefix("_INBOX." + s.user), nats.NoReconnect(), nats.Timeout(askTime),
		nats.PingInterval(askTime), nats.MaxPingsOutstanding(2),
		nats.ClosedHandler(func(*nats.Conn) { once.Do(func() { close(lost) }) }),
	}
	if s.passwordFile != "" {
		password, err := passwordIn(s.passwordFile) // for each connection: a new password needs no restart
		if err != nil {
			return
		}
		options = append(options, nats.UserInfo(s.user, password))
	}
	connection, err := nats.Connect(s.nats, options...)
	if err != nil {
		return
	}
	defer connection.Close()
	stream, err := jetstream.New(connection)
	if err != nil {
		return
	}
	bucket, err := stream.KeyValue(ctx, s.bucket)
	if err != nil {
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			f.ready.Store(true) // no key has been made yet
		}
		return
	}
	watcher, err := bucket.Watch(ctx, keyPrefix+"*")
	if err != nil {
		return
	}
	defer func() { _ = watcher.Stop() }()
	seen := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-lost:
			return
		case entry, ok := <-watcher.Updates():
			if !ok {
				return
			}
			if entry == nil { // all current values have been received
				f.forget(seen)
				f.ready.Store(true)
				f.away.Set(0)
				continue
			}
			digest := strings.TrimPrefix(entry.Key(), keyPrefix)
			seen[digest] = true
			f.take(digest, entry)
		}
	}
}

func (f *following) take(digest string, entry jetstream.KeyValueEntry) {
	var found caller
	if entry.Operation() != jetstream.KeyValuePut || json.Unmarshal(entry.Value(), &found) != nil {
		f.keys.Delete(digest)
		return
	}
	f.keys.Store(digest, &found)
}

// forget removes keys that were deleted while the connection was lost.
func (f *following) forget(seen map[string]bool) {
	f.keys.Range(func(digest, _ any) bool {
		if name, _ := digest.(string); !seen[name] {
			f.keys.Delete(digest)
		}
		return true
	})
}

func (f *following) find(digest string) *caller {
	found, ok := f.keys.Load(digest)
	if !ok {
		return nil
	}
	known, _ := found.(*caller)
	return known
}

func (f *following) isReady() bool { return f.ready.Load() }
