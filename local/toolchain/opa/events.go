package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

const (
	eventTopic  = "policy.decided.v1"
	mostEvents  = 10_000
	mostTarget  = 500 // characters of a path
	mostID      = 128
	summaryTime = time.Minute
	lingerTime  = 50 * time.Millisecond
	flushTime   = 5 * time.Second
	dialTime    = 10 * time.Second
)

// events sends decisions that Audit keeps to Kafka: those that refuse a known caller, operators' writes, and each break
// of the glass. A refused caller's further refusals by the same rule are counted for a minute and sent as one event, so
// that no caller can fill the log. No decision waits for Kafka.
type events struct {
	client *kgo.Client
	lost   prometheus.Counter
	guard  sync.Mutex
	counts map[kindOfRefusal]*refusals
	stop   chan struct{}
	done   sync.WaitGroup
}

type kindOfRefusal struct{ tenant, key, rule, method string }

// refusals are those since the first one, which has been sent.
type refusals struct {
	since time.Time
	more  int
	last  *decision
}

// event is a CloudEvent with the fields of policy.decided.v1, whose schema is in the services' kit.
type event struct {
	Version string   `json:"specversion"`
	ID      string   `json:"id"`
	Source  string   `json:"source"`
	Type    string   `json:"type"`
	Subject string   `json:"subject"`
	Time    string   `json:"time"`
	Content string   `json:"datacontenttype"`
	Data    document `json:"data"`
}

func newEvents(s settings, registry *prometheus.Registry) (*events, error) {
	options := []kgo.Opt{
		kgo.SeedBrokers(s.kafka), kgo.ClientID(s.user), kgo.ProducerLinger(lingerTime), kgo.MaxBufferedRecords(mostEvents),
		kgo.UnknownTopicRetries(-1), kgo.DefaultProduceTopic(eventTopic),
	}
	if s.kafkaAuthority != "" {
		authority, err := os.ReadFile(s.kafkaAuthority)
		if err != nil {
			return nil, fmt.Errorf("-kafka-authority: %w", err)
		}
		known := x509.NewCertPool()
		if !known.AppendCertsFromPEM(authority) {
			return nil, fmt.Errorf("-kafka-authority: %s has no certificate", s.kafkaAuthority)
		}
		dialer := &tls.Dialer{
			NetDialer: &net.Dialer{Timeout: dialTime}, Config: &tls.Config{RootCAs: known, MinVersion: tls.VersionTLS12},
		}
		options = append(options, kgo.Dialer(dialer.DialContext), kgo.SASL(scram.Sha512(s.kafkaLogin)))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, fmt.Errorf("-kafka: %w", err)
	}
	e := &events{
		client: client, counts: map[kindOfRefusal]*refusals{}, stop: make(chan struct{}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "opa_decision_events_dropped_total", Help: "Decisions that Audit lacks, because Kafka did not take them.",
		}),
	}
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "opa_decision_events_waiting", Help: "Decisions that wait for Kafka, in memory.",
	}, func() float64 { return float64(client.BufferedProduceRecords()) })
	registry.MustRegister(e.lost, waiting)
	e.done.Go(e.summarize)
	return e, nil
}

// kafkaLogin is asked for each connection: a new password needs no restart.
func (s settings) kafkaLogin(context.Context) (scram.Auth, error) {
	password, err := passwordIn(s.kafkaPasswordFile)
	if err != nil {
		return scram.Auth{}, fmt.Errorf("-kafka-password-file: %w", err)
	}
	return scram.Auth{User: s.user, Pass: password}, nil
}

// add takes a decision, if it is one that Audit keeps. There are no events without Kafka.
func (e *events) add(one *decision) {
	caller := one.Input.Caller
	if e == nil || caller == nil || caller.Tenant == "" {
		return // invented keys belong to no tenant: the log and the metrics have them
	}
	if one.Outcome != "denied" {
		if one.Result["break_glass"] != nil || one.Result["operators"] == true && writes(one.Input.Method) {
			e.send(one, 1)
		}
		return
	}
	rule, _ := one.Result["rule"].(string)
	kind := kindOfRefusal{caller.Tenant, caller.ID, rule, one.Input.Method}
	e.guard.Lock()
	known := e.counts[kind]
	if known != nil {
		known.more, known.last = known.more+1, one
	} else {
		e.counts[kind] = &refusals{since: one.Time}
	}
	e.guard.Unlock()
	if known == nil {
		e.send(one, 1)
	}
}

func writes(method string) bool { return method != "GET" && method != "HEAD" && method != "OPTIONS" }

// summarize sends, for each kind of refusal, how many there have been in a minute after the first.
func (e *events) summarize() {
	timer := time.NewTicker(time.Second)
	defer timer.Stop()
	for {
		select {
		case <-e.stop:
			e.ended(time.Time{})
			return
		case now := <-timer.C:
			e.ended(now)
		}
	}
}

// ended forgets the kinds of refusals whose minute has passed, or all if there is no time, and sends their summaries.
func (e *events) ended(now time.Time) {
	e.guard.Lock()
	var found []*refusals
	for kind, one := range e.counts {
		if now.IsZero() || now.Sub(one.since) >= summaryTime {
			delete(e.counts, kind)
			found = append(found, one)
		}
	}
	e.guard.Unlock()
	for _, one := range found {
		if one.more > 0 {
			e.send(one.last, one.more)
		}
	}
}

func (e *events) send(one *decision, times int) {
	content, err := json.Marshal(newEvent(one, times))
	if err != nil {
		e.lost.Inc()
		return
	}
	record := &kgo.Record{Key: []byte(one.Input.Caller.Tenant), Value: content}
	e.client.TryProduce(context.Background(), record, func(_ *kgo.Record, err error) {
		if err != nil {
			e.lost.Inc()
			if !errors.Is(err, kgo.ErrMaxBuffered) {
				fmt.Fprintln(os.Stderr, "opa: a decision was not sent to Kafka:", err)
			}
		}
	})
}

func newEvent(one *decision, times int) event {
	caller := one.Input.Caller
	data := document{
		"tenant": caller.Tenant, "key": caller.ID, "outcome": one.Outcome, "rule": one.Result["rule"],
		"method": one.Input.Method, "target": cut(one.Input.Target, mostTarget), "revision": one.Revision, "times": times,
	}
	for name, value := range map[string]any{
		"status": one.Result["status"], "overridden": one.Result["overridden"], "reason": one.Result["break_glass"],
	} {
		if value != nil {
			data[name] = value
		}
	}
	if one.Input.Model != "" {
		data["model"] = one.Input.Model
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	subject := "tenant/" + caller.Tenant
	if one.ID != "" {
		subject = "request/" + cut(one.ID, mostID)
	}
	return event{
		Version: "1.0", ID: hex.EncodeToString(id), Source: "/services/opa", Type: "dev.cogniforge." + eventTopic,
		Subject: subject, Time: one.Time.UTC().Format(time.RFC3339Nano), Content: "application/json", Data: data,
	}
}

// close sends what waits, as long as Kafka takes it.
func (e *events) close() {
	close(e.stop)
	e.done.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	_ = e.client.Flush(ctx)
	e.client.Close()
}
