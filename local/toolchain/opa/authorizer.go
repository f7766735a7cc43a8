package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/prometheus/client_golang/prometheus"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var (
	errNoBundle    = errors.New("no bundle is in force yet")
	errNoDirectory = errors.New("the directory of keys has not been received yet")
)

// authorizer answers Envoy. It fails only if there is no decision; the gateway's configuration says what follows then.
type authorizer struct {
	authv3.UnimplementedAuthorizationServer
	engine *engine
	known  directory
	limit  time.Duration
	log    *log
	events *events
	spent  *prometheus.HistogramVec
	broken prometheus.Counter
}

func newAuthorizer(
	e *engine, known directory, limit time.Duration, log *log, sent *events, registry *prometheus.Registry,
) *authorizer {
	a := &authorizer{
		engine: e, known: known, limit: limit, log: log, events: sent,
		spent: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "opa_decision_seconds", Help: "Duration of decisions, by their outcome and the policy's rule.",
			Buckets: []float64{.0001, .00025, .0005, .001, .002, .005, .01, .025, .05},
		}, []string{"outcome", "rule"}),
		broken: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "opa_break_glass_total", Help: "Requests of operators that were allowed although a rule denies them.",
		}),
	}
	registry.MustRegister(a.spent, a.broken)
	return a
}

// Check decides about one request.
func (a *authorizer) Check(ctx context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	started := time.Now()
	if !a.engine.isReady() {
		return nil, status.Error(codes.Unavailable, errNoBundle.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, a.limit)
	defer cancel()
	asked := a.question(r)
	found, revision, err := a.engine.decision(ctx, asked.input(started), started)
	if err == nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	answer, rule := (*authv3.CheckResponse)(nil), "none"
	if err == nil {
		rule, _ = found["rule"].(string)
		answer, err = a.answer(found)
	}
	outcome := "allowed"
	switch {
	case err != nil:
		outcome = "undecided"
		err = status.Error(codes.Unavailable, err.Error())
	case answer.GetDeniedResponse() != nil:
		outcome = "denied"
	}
	spent := time.Since(started)
	a.spent.WithLabelValues(outcome, rule).Observe(spent.Seconds())
	made := &decision{
		Time: started, Message: "Decision", ID: asked.id, Revision: revision, Outcome: outcome, Input: asked, Result: found,
		Duration: float64(spent.Microseconds()) / 1000,
	}
	a.log.add(made)
	a.events.add(made)
	return answer, err
}

func (a *authorizer) answer(found document) (*authv3.CheckResponse, error) {
	if undecided, _ := found["undecided"].(bool); undecided {
		return nil, errNoDirectory
	}
	if allowed, _ := found["allowed"].(bool); allowed {
		if broken, _ := found["break_glass"].(string); broken != "" {
			a.broken.Inc()
		}
		return &authv3.CheckResponse{
			Status:       &spb.Status{Code: int32(codes.OK)},
			HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}},
		}, nil
	}
	body, err := json.Marshal(found["body"])
	if err != nil {
		return nil, err
	}
	number, _ := found["status"].(json.Number)
	code, err := number.Int64()
	if err != nil || code < 400 || code > 499 {
		return nil, errors.New("the policy's status is not between 400 and 499")
	}
	denied := &authv3.DeniedHttpResponse{
		Status: &typev3.HttpStatus{Code: typev3.StatusCode(code)},
		Body:   string(body),
		Headers: []*corev3.HeaderValueOption{{
			Header: &corev3.HeaderValue{Key: "content-type", Value: "application/json"},
		}},
	}
	return &authv3.CheckResponse{
		Status:       &spb.Status{Code: int32(codes.PermissionDenied)},
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: denied},
	}, nil
}
