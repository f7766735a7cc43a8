package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/logging"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/plugins"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/sdk"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
)

const (
	decisionPath = "cogniforge/gateway/decision"
	bundleName   = "policy"
	bundleFile   = "bundle.tar.gz"
	bundleBytes  = 16 << 20
)

// engine is OPA with one bundle, of which only signed versions come into force. OPA's SDK loads bundles; the query is
// evaluated here, because the SDK converts the input and the data and writes the log in each decision.
type engine struct {
	opa     *sdk.OPA
	manager *plugins.Manager
	inForce atomic.Pointer[policy]
	ready   chan struct{}
	source  *folder
}

// policy is the prepared query of the bundle in force.
type policy struct {
	query    rego.PreparedEvalQuery
	revision string
}

type document = map[string]any

// newEngine starts OPA. The last good bundle is read from its copy, then the source is polled.
func newEngine(ctx context.Context, s settings, registry *prometheus.Registry) (*engine, error) {
	key, err := os.ReadFile(s.key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	e := &engine{ready: make(chan struct{})}
	place, file := s.bundle, ""
	if !strings.Contains(place, "://") {
		if e.source, err = offer(place); err != nil {
			return nil, err
		}
		place = e.source.url()
	}
	whole, err := url.Parse(place)
	if err != nil {
		return nil, fmt.Errorf("-bundle: %w", err)
	}
	file = path.Base(whole.Path)
	whole.Path = path.Dir(whole.Path)
	service := document{"url": strings.TrimSuffix(whole.String(), "/"), "response_header_timeout_seconds": 5}
	if s.s3Region != "" {
		service["credentials"] = document{"s3_signing": document{
			"environment_credentials": document{"aws_region": s.s3Region},
		}}
	}
	seconds := s.poll.Seconds()
	text, err := json.Marshal(document{
		"services": document{"source": service},
		"keys":     document{"platform": document{"key": string(key), "algorithm": "RS256"}},
		"bundles": document{bundleName: document{
			"service": "source", "resource": file, "persist": true, "size_limit_bytes": bundleBytes,
			"signing": document{"keyid": "platform", "exclude_files": []string{}},
			"polling": document{"min_delay_seconds": max(1, int(seconds)), "max_delay_seconds": max(1, int(seconds+1))},
		}},
		"persistence_directory": s.copies,
		"status":                document{"prometheus": true},
	})
	if err != nil {
		return nil, err
	}
	e.opa, err = sdk.New(ctx, sdk.Options{
		ID: "opa", Config: bytes.NewReader(text), Ready: e.ready, Logger: lines(logging.Warn),
		ConsoleLogger: lines(logging.Info),
		// Data is kept as the evaluator's values: it is converted once for each bundle, not in each decision.
		Store:       inmem.NewWithOpts(inmem.OptRoundTripOnWrite(false), inmem.OptReturnASTValuesOnRead(true)),
		ManagerOpts: []func(*plugins.Manager){plugins.WithPrometheusRegister(registry), e.follow},
	})
	if err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	return e, nil
}

// lines is a logger of JSON lines on standard output.
func lines(level logging.Level) *logging.StandardLogger {
	logger := logging.New()
	logger.SetOutput(os.Stdout)
	logger.SetFormatter(&logrus.JSONFormatter{FieldMap: logrus.FieldMap{
		logrus.FieldKeyMsg: "message", logrus.FieldKeyTime: "time", logrus.FieldKeyLevel: "level",
	}})
	logger.SetLevel(level)
	return logger
}

// follow prepares the query of each bundle as it comes into force. The store runs the trigger before it lets any
// decision read the new data.
func (e *engine) follow(manager *plugins.Manager) {
	e.manager = manager
	manager.RegisterCompilerTrigger(func(txn storage.Transaction) {
		next, err := e.prepared(context.Background(), txn)
		if err != nil {
			manager.Logger().Error("The bundle has no decision: %v", err)
		}
		e.inForce.Store(next)
	})
}

func (e *engine) prepared(ctx context.Context, txn storage.Transaction) (*policy, error) {
	revision, err := bundle.ReadBundleRevisionFromStore(ctx, e.manager.Store, txn, bundleName)
	if err != nil {
		return nil, err
	}
	query, err := rego.New(
		rego.Query("data."+strings.ReplaceAll(decisionPath, "/", ".")), rego.Compiler(e.manager.GetCompiler()),
		rego.Store(e.manager.Store), rego.Transaction(txn), rego.Metrics(metrics.NoOp()),
	).PrepareForEval(ctx)
	if err != nil {
		return nil, err
	}
	return &policy{query, revision}, nil
}

func (e *engine) isReady() bool {
	select {
	case <-e.ready:
		return e.inForce.Load() != nil
	default:
		return false
	}
}

// decision evaluates the policy. It returns the revision of the bundle, too.
func (e *engine) decision(ctx context.Context, input ast.Value, now time.Time) (document, string, error) {
	txn, err := e.manager.Store.NewTransaction(ctx)
	if err != nil {
		return nil, "", err
	}
	defer e.manager.Store.Abort(ctx, txn)
	current := e.inForce.Load() // after the transaction began: both are of one bundle
	if current == nil {
		return nil, "", errors.New("the bundle has no decision")
	}
	results, err := current.query.Eval(
		ctx, rego.EvalTime(now), rego.EvalParsedInput(input), rego.EvalTransaction(txn), rego.EvalMetrics(metrics.NoOp()),
	)
	if err != nil {
		return nil, current.revision, err
	}
	if len(results) != 1 {
		return nil, current.revision, errors.New("the policy gave no decision")
	}
	found, ok := results[0].Expressions[0].Value.(document)
	if !ok {
		return nil, current.revision, fmt.Errorf("the policy gave %T", results[0].Expressions[0].Value)
	}
	return found, current.revision, nil
}

func (e *engine) stop() {
	last, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	e.opa.Stop(last)
	if e.source != nil {
		e.source.close()
	}
}
