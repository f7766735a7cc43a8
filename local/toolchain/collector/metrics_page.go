package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// The exporter metrics_page serves what it has received last, for Prometheus. The exporter of the contrib repository
// imports Prometheus' discovery with the SDKs of all clouds.

// forgotten is the time after which a series without new values disappears.
const forgotten = 5 * time.Minute

const serviceLabel = "service_name"

type pageConfig struct {
	Endpoint string `mapstructure:"endpoint"`
}

func (c *pageConfig) Validate() error {
	if c.Endpoint == "" {
		return errors.New("endpoint is missing; write it like 0.0.0.0:8888")
	}
	return nil
}

type series struct {
	metric prometheus.Metric
	seen   time.Time
}

type page struct {
	endpoint string
	names    otlptranslator.MetricNamer
	labels   otlptranslator.LabelNamer
	server   *http.Server
	lock     sync.Mutex
	known    map[string]series
}

func newPageFactory() exporter.Factory {
	return exporter.NewFactory(
		component.MustNewType("metrics_page"),
		func() component.Config { return &pageConfig{} },
		exporter.WithMetrics(
			func(_ context.Context, _ exporter.Settings, config component.Config) (exporter.Metrics, error) {
				return &page{
					endpoint: config.(*pageConfig).Endpoint,
					names:    otlptranslator.NewMetricNamer("", otlptranslator.UnderscoreEscapingWithSuffixes),
					known:    map[string]series{},
				}, nil
			},
			component.StabilityLevelStable,
		),
	)
}

func (p *page) Capabilities() consumer.Capabilities {
	return consumer.Capabilities{MutatesData: false}
}

func (p *page) Start(context.Context, component.Host) error {
	registry := prometheus.NewRegistry()
	if err := registry.Register(p); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", p.endpoint)
	if err != nil {
		return err
	}
	handler := http.NewServeMux()
	handler.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	p.server = &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	go func() { _ = p.server.Serve(listener) }() // it ends with Shutdown
	return nil
}

func (p *page) Shutdown(ctx context.Context) error {
	if p.server == nil {
		return nil
	}
	return p.server.Shutdown(ctx)
}

// Describe announces nothing, since names are known only once they have been received.
func (*page) Describe(chan<- *prometheus.Desc) {}

// Collect sends all series that are not forgotten.
func (p *page) Collect(out chan<- prometheus.Metric) {
	p.lock.Lock()
	defer p.lock.Unlock()
	oldest := time.Now().Add(-forgotten)
	for key, one := range p.known {
		if one.seen.Before(oldest) {
			delete(p.known, key)
			continue
		}
		out <- one.metric
	}
}

// ConsumeMetrics keeps the latest value of each series.
func (p *page) ConsumeMetrics(_ context.Context, metrics pmetric.Metrics) error {
	p.lock.Lock()
	defer p.lock.Unlock()
	var failed []error
	for _, resource := range metrics.ResourceMetrics().All() {
		service := ""
		if value, ok := resource.Resource().Attributes().Get("service.name"); ok {
			service = value.AsString()
		}
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				failed = append(failed, p.keep(service, metric))
			}
		}
	}
	return errors.Join(failed...)
}

func (p *page) keep(service string, metric pmetric.Metric) error {
	var failed []error
	type builder func(*prometheus.Desc, []string) (prometheus.Metric, error)
	add := func(kind otlptranslator.MetricType, attributes pcommon.Map, build builder) {
		name, err := p.names.Build(otlptranslator.Metric{Name: metric.Name(), Unit: metric.Unit(), Type: kind})
		if err != nil {
			failed = append(failed, err)
			return
		}
		labels, values := p.labelled(service, attributes)
		made, err := build(prometheus.NewDesc(name, metric.Description(), labels, nil), values)
		if err != nil {
			failed = append(failed, err)
			return
		}
		key := strings.Join(append(append([]string{name}, labels...), values...), "\x00")
		p.known[key] = series{made, time.Now()}
	}
	number := func(kind otlptranslator.MetricType, points pmetric.NumberDataPointSlice, as prometheus.ValueType) {
		for _, point := range points.All() {
			value := point.DoubleValue()
			if point.ValueType() == pmetric.NumberDataPointValueTypeInt {
				value = float64(point.IntValue())
			}
			add(kind, point.Attributes(), func(desc *prometheus.Desc, values []string) (prometheus.Metric, error) {
				return prometheus.NewConstMetric(desc, as, value, values...)
			})
		}
	}
	switch metric.Type() {
	case pmetric.MetricTypeGauge:
		number(otlptranslator.MetricTypeGauge, metric.Gauge().DataPoints(), prometheus.GaugeValue)
	case pmetric.MetricTypeSum:
		if metric.Sum().IsMonotonic() {
			number(otlptranslator.MetricTypeMonotonicCounter, metric.Sum().DataPoints(), prometheus.CounterValue)
		} else {
			number(otlptranslator.MetricTypeNonMonotonicCounter, metric.Sum().DataPoints(), prometheus.GaugeValue)
		}
	case pmetric.MetricTypeHistogram:
		for _, point := range metric.Histogram().DataPoints().All() {
			add(otlptranslator.MetricTypeHistogram, point.Attributes(),
				func(desc *prometheus.Desc, values []string) (prometheus.Metric, error) {
					return prometheus.NewConstHistogram(desc, point.Count(), point.Sum(), buckets(point), values...)
				})
		}
	}
	return errors.Join(failed...)
}

// buckets returns the number of values up to each bound.
func buckets(point pmetric.HistogramDataPoint) map[float64]uint64 {
	found := map[float64]uint64{}
	sum := uint64(0)
	for place, bound := range point.ExplicitBounds().All() {
		sum += point.BucketCounts().At(place)
		found[bound] = sum
	}
	return found
}

// labelled returns the names of a series' labels in their order, and their values.
func (p *page) labelled(service string, attributes pcommon.Map) ([]string, []string) {
	found := map[string]string{}
	if service != "" {
		found[serviceLabel] = service
	}
	for name, value := range attributes.All() {
		if label, err := p.labels.Build(name); err == nil {
			found[label] = strings.ToValidUTF8(value.AsString(), "?")
		}
	}
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	sort.Strings(names)
	values := make([]string, 0, len(names))
	for _, name := range names {
		values = append(values, found[name])
	}
	return names, values
}
