package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/logging"
	"github.com/open-policy-agent/opa/v1/plugins"
	"github.com/open-policy-agent/opa/v1/sdk"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
)

const (
	decisionPath = "cogniforge/gateway/decision"
	maskPath     = "cogniforge/mask/mask"
	bundleFile   = "bundle.tar.gz"
	bundleBytes  = 16 << 20
)

// engine is OPA with one bundle, of which only signed versions come into force.
type engine struct {
	opa    *sdk.OPA
	ready  chan struct{}
	source *folder
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
		"bundles": document{"policy": document{
			"service": "source", "resource": file, "persist": true, "size_limit_bytes": bundleBytes,
			"signing": document{"keyid": "platform", "exclude_files": []string{}},
			"polling": document{"min_delay_seconds": max(1, int(seconds)), "max_delay_seconds": max(1, int(seconds+1))},
		}},
		"persistence_directory": s.copies,
		"decision_logs":         document{"console": true, "mask_decision": maskPath},
		"status":                document{"prometheus": true},
	})
	if err != nil {
		return nil, err
	}
	e.opa, err = sdk.New(ctx, sdk.Options{
		ID: "opa", Config: bytes.NewReader(text), Ready: e.ready, Logger: lines(logging.Warn),
		ConsoleLogger: lines(logging.Info),
		ManagerOpts:   []func(*plugins.Manager){plugins.WithPrometheusRegister(registry)},
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

func (e *engine) isReady() bool {
	select {
	case <-e.ready:
		return true
	default:
		return false
	}
}

// decision evaluates the policy and logs the decision under the request's id.
func (e *engine) decision(ctx context.Context, id string, input document, now time.Time) (document, error) {
	result, err := e.opa.Decision(ctx, sdk.DecisionOptions{Now: now, Path: decisionPath, Input: input, DecisionID: id})
	if err != nil {
		return nil, err
	}
	found, ok := result.Result.(document)
	if !ok {
		return nil, fmt.Errorf("the policy gave %T", result.Result)
	}
	return found, nil
}

func (e *engine) stop() {
	last, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	e.opa.Stop(last)
	if e.source != nil {
		e.source.close()
	}
}
