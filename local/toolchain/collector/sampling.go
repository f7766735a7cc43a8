package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"sort"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"
)

// The processor request_sampling decides about whole requests: a request is complete when its entrance span has ended,
// however long it streamed. The processor tail_sampling of OpenTelemetry decides a fixed time after a trace's first
// span, so within a stream, and once per trace ID, which clients choose.

const (
	reasonError   = "error"
	reasonMarked  = "marked"
	reasonSlow    = "slow"
	reasonShare   = "share"
	reasonNotKept = "not_kept"
	// keptBy is the attribute of kept spans with the reason.
	keptBy = "cogniforge.kept_by"
	tick   = 200 * time.Millisecond
)

// request is what has arrived of a request that is not decided yet.
type request struct {
	spans    ptrace.Traces
	count    int
	arrived  time.Time
	due      time.Time
	complete bool
	// late is whether there are only spans of consumers, which process events of a request after its end.
	late   bool
	reason string
}

type sampling struct {
	config *samplingConfig
	slow   map[string][]slowRule
	next   consumer.Traces
	log    *zap.Logger

	lock sync.Mutex
	held map[pcommon.TraceID]*request
	// kept has the time until which further spans of a kept trace are passed on.
	kept  map[pcommon.TraceID]time.Time
	spans int
	// Exactly one of each OneOf ordinary requests is kept, at a position that nobody can foresee.
	position, chosen int

	requests, early metric.Int64Counter
	stop            chan struct{}
	ended           sync.WaitGroup
}

func newSampling(
	_ context.Context, set processor.Settings, config component.Config, next consumer.Traces,
) (processor.Traces, error) {
	s := &sampling{
		config: config.(*samplingConfig),
		slow:   map[string][]slowRule{},
		next:   next,
		log:    set.Logger,
		held:   map[pcommon.TraceID]*request{},
		kept:   map[pcommon.TraceID]time.Time{},
		stop:   make(chan struct{}),
	}
	for _, rule := range s.config.Slow {
		s.slow[rule.Service] = append(s.slow[rule.Service], rule)
	}
	meter := set.MeterProvider.Meter("cogniforge.dev/local/collector/request_sampling")
	var err [3]error
	s.requests, err[0] = meter.Int64Counter(
		"otelcol_request_sampling_requests", metric.WithDescription("Requests that were decided, by reason."),
	)
	s.early, err[1] = meter.Int64Counter(
		"otelcol_request_sampling_early_requests",
		metric.WithDescription("Requests that were decided before they were complete, because memory was used up."),
	)
	_, err[2] = meter.Int64ObservableGauge(
		"otelcol_request_sampling_held_spans",
		metric.WithDescription("Spans of requests that are not decided yet."),
		metric.WithInt64Callback(func(_ context.Context, observer metric.Int64Observer) error {
			s.lock.Lock()
			defer s.lock.Unlock()
			observer.Observe(int64(s.spans))
			return nil
		}),
	)
	return s, errors.Join(err[:]...)
}

func (s *sampling) Capabilities() consumer.Capabilities {
	return consumer.Capabilities{MutatesData: true}
}

func (s *sampling) Start(context.Context, component.Host) error {
	s.ended.Add(1)
	go func() {
		defer s.ended.Done()
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		for {
			select {
			case <-s.stop:
				return
			case now := <-ticker.C:
				s.decide(now, false)
			}
		}
	}()
	return nil
}

// Shutdown decides about all requests that are in memory.
func (s *sampling) Shutdown(context.Context) error {
	close(s.stop)
	s.ended.Wait()
	s.decide(time.Now(), true)
	return nil
}

func (s *sampling) ConsumeTraces(ctx context.Context, traces ptrace.Traces) error {
	passed := ptrace.NewTraces()
	now := time.Now()
	s.lock.Lock()
	for _, from := range traces.ResourceSpans().All() {
		s.sort(from, passed, now)
	}
	full := s.spans > s.config.MostSpans
	s.lock.Unlock()
	if full {
		s.relieve(now)
	}
	if passed.ResourceSpans().Len() == 0 {
		return nil
	}
	return s.next.ConsumeTraces(ctx, passed)
}

// sort moves the spans of a resource to their requests, or to `passed` if their trace is kept already.
func (s *sampling) sort(from ptrace.ResourceSpans, passed ptrace.Traces, now time.Time) {
	service := ""
	if value, ok := from.Resource().Attributes().Get("service.name"); ok {
		service = value.AsString()
	}
	resources := map[pcommon.TraceID]ptrace.ResourceSpans{}
	for _, scope := range from.ScopeSpans().All() {
		scopes := map[pcommon.TraceID]ptrace.ScopeSpans{}
		for _, span := range scope.Spans().All() {
			id := span.TraceID()
			to, known := scopes[id]
			if !known {
				resource, exists := resources[id]
				if !exists {
					resource = s.destination(id, passed, now).ResourceSpans().AppendEmpty()
					from.Resource().CopyTo(resource.Resource())
					resource.SetSchemaUrl(from.SchemaUrl())
					resources[id] = resource
				}
				to = resource.ScopeSpans().AppendEmpty()
				scope.Scope().CopyTo(to.Scope())
				to.SetSchemaUrl(scope.SchemaUrl())
				scopes[id] = to
			}
			if held, ok := s.held[id]; ok {
				s.judge(held, service, span, now)
			}
			span.MoveTo(to.Spans().AppendEmpty())
		}
	}
}

// destination returns where spans of a trace go.
func (s *sampling) destination(id pcommon.TraceID, passed ptrace.Traces, now time.Time) ptrace.Traces {
	if held, ok := s.held[id]; ok {
		return held.spans
	}
	if until, ok := s.kept[id]; ok && now.Before(until) {
		return passed
	}
	begun := &request{spans: ptrace.NewTraces(), arrived: now, due: now.Add(s.config.Settle), late: true}
	s.held[id] = begun
	return begun.spans
}

// judge takes a span into account for its request's decision.
func (s *sampling) judge(held *request, service string, span ptrace.Span, now time.Time) {
	held.count++
	s.spans++
	if held.late && span.Kind() != ptrace.SpanKindConsumer {
		held.late, held.due = false, held.arrived.Add(s.config.Longest)
	}
	_, entrance := span.Attributes().Get(s.config.Entrance)
	if !held.complete && (entrance || span.ParentSpanID().IsEmpty()) {
		held.complete, held.due = true, now.Add(s.config.Settle)
	}
	switch {
	case held.reason == reasonError:
	case span.Status().Code() == ptrace.StatusCodeError:
		held.reason = reasonError
	case held.reason == reasonMarked:
	case s.marked(span):
		held.reason = reasonMarked
	case held.reason == "" && s.isSlow(service, span):
		held.reason = reasonSlow
	}
}

func (s *sampling) marked(span ptrace.Span) bool {
	for _, rule := range s.config.Marks {
		if value, ok := span.Attributes().Get(rule.Attribute); ok && value.AsString() == rule.Value {
			return true
		}
	}
	return false
}

func (s *sampling) isSlow(service string, span ptrace.Span) bool {
	for _, rule := range s.slow[service] {
		if rule.Having != "" {
			if _, ok := span.Attributes().Get(rule.Having); !ok {
				continue
			}
		}
		seconds := span.EndTimestamp().AsTime().Sub(span.StartTimestamp().AsTime()).Seconds()
		if rule.Attribute != "" {
			value, ok := span.Attributes().Get(rule.Attribute)
			if !ok || value.Type() != pcommon.ValueTypeDouble {
				continue
			}
			seconds = value.Double()
		}
		if seconds > rule.Seconds {
			return true
		}
	}
	return false
}

// decide passes on what is kept of the requests that are due, or of all.
func (s *sampling) decide(now time.Time, all bool) {
	s.lock.Lock()
	var due []pcommon.TraceID
	for id, held := range s.held {
		if all || !now.Before(held.due) {
			due = append(due, id)
		}
	}
	kept := s.take(due, now)
	for id, until := range s.kept {
		if !now.Before(until) {
			delete(s.kept, id)
		}
	}
	s.lock.Unlock()
	s.pass(kept)
}

// relieve decides about the oldest requests until a tenth of the memory is free.
func (s *sampling) relieve(now time.Time) {
	s.lock.Lock()
	ids := make([]pcommon.TraceID, 0, len(s.held))
	for id := range s.held {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(a, b int) bool { return s.held[ids[a]].arrived.Before(s.held[ids[b]].arrived) })
	end, left := 0, s.spans
	for end < len(ids) && left > s.config.MostSpans*9/10 {
		left -= s.held[ids[end]].count
		end++
	}
	kept := s.take(ids[:end], now)
	s.lock.Unlock()
	s.early.Add(context.Background(), int64(end))
	s.pass(kept)
}

// take removes requests from memory and returns those that are kept. The caller has the lock.
func (s *sampling) take(ids []pcommon.TraceID, now time.Time) []ptrace.Traces {
	var kept []ptrace.Traces
	for _, id := range ids {
		held := s.held[id]
		delete(s.held, id)
		s.spans -= held.count
		reason := held.reason
		if reason == "" {
			reason = s.ordinary(held)
		}
		if !held.late || reason != reasonNotKept {
			s.requests.Add(context.Background(), 1, metric.WithAttributes(attribute.String("reason", reason)))
		}
		if reason == reasonNotKept {
			continue
		}
		if len(s.kept) < s.config.MostSpans {
			s.kept[id] = now.Add(s.config.Remembered)
		}
		explain(held.spans, reason)
		kept = append(kept, held.spans)
	}
	return kept
}

// ordinary decides about a request that is neither failed, marked nor slow. Late spans alone are no request.
func (s *sampling) ordinary(held *request) string {
	if s.config.OneOf == 0 || !held.complete {
		return reasonNotKept
	}
	if s.position == 0 {
		s.chosen = rand.IntN(s.config.OneOf)
	}
	reason := reasonNotKept
	if s.position == s.chosen {
		reason = reasonShare
	}
	s.position = (s.position + 1) % s.config.OneOf
	return reason
}

// explain writes the reason into each span.
func explain(traces ptrace.Traces, reason string) {
	for _, resource := range traces.ResourceSpans().All() {
		for _, scope := range resource.ScopeSpans().All() {
			for _, span := range scope.Spans().All() {
				span.Attributes().PutStr(keptBy, reason)
			}
		}
	}
}

func (s *sampling) pass(kept []ptrace.Traces) {
	for _, traces := range kept {
		if err := s.next.ConsumeTraces(context.Background(), traces); err != nil {
			s.log.Warn("spans of a kept request were refused", zap.Error(err))
		}
	}
}
