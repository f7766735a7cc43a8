package main

import (
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/processor"
)

// The settings of the processor request_sampling.

// slowRule makes a service's span slow.
type slowRule struct {
	Service string `mapstructure:"service"`
	// Having is the attribute that a span must have; empty: every span of the service counts.
	Having string `mapstructure:"having"`
	// Attribute holds the seconds; empty: the span's duration counts.
	Attribute string  `mapstructure:"attribute"`
	Seconds   float64 `mapstructure:"seconds"`
}

// markRule keeps requests with a span whose attribute has this value.
type markRule struct {
	Attribute string `mapstructure:"attribute"`
	Value     string `mapstructure:"value"`
}

type samplingConfig struct {
	// Entrance is the attribute that marks a span as its request's first one, although it has a parent outside.
	Entrance string `mapstructure:"entrance"`
	// Settle is the time for other services' spans after the entrance span has arrived.
	Settle time.Duration `mapstructure:"settle"`
	// Longest is the time after which a request without an entrance span is decided.
	Longest time.Duration `mapstructure:"longest"`
	// Remembered is the time for which a kept trace's later spans are kept, too.
	Remembered time.Duration `mapstructure:"remembered"`
	// MostSpans bounds the spans in memory. Beyond it, the oldest requests are decided before they are complete.
	MostSpans int `mapstructure:"most_spans"`
	// OneOf is the number of ordinary requests of which one is kept, at random; 0 keeps none.
	OneOf int        `mapstructure:"one_of"`
	Marks []markRule `mapstructure:"marks"`
	Slow  []slowRule `mapstructure:"slow"`
}

func (c *samplingConfig) Validate() error {
	var found []error
	if c.Settle <= 0 || c.Longest < c.Settle || c.Remembered < 0 {
		found = append(found, errors.New("settle must be positive, longest at least settle, remembered not negative"))
	}
	if c.MostSpans < 1 || c.OneOf < 0 {
		found = append(found, errors.New("most_spans must be positive, and one_of not negative"))
	}
	for _, rule := range c.Slow {
		if rule.Service == "" || rule.Seconds <= 0 {
			found = append(found, fmt.Errorf("slow: a rule needs a service and positive seconds: %+v", rule))
		}
	}
	return errors.Join(found...)
}

func newSamplingFactory() processor.Factory {
	return processor.NewFactory(
		component.MustNewType("request_sampling"),
		func() component.Config {
			return &samplingConfig{
				Settle: 6 * time.Second, Longest: 15 * time.Minute, Remembered: time.Minute, MostSpans: 50_000, OneOf: 100,
			}
		},
		processor.WithTraces(newSampling, component.StabilityLevelStable),
	)
}
