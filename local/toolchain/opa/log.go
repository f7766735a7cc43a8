package main

import (
	"bufio"
	"encoding/json"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// mostWaiting is the number of decisions that wait for the log. More are counted and left out: no request waits for a
// disk.
const (
	mostWaiting = 10_000
	batchTime   = 100 * time.Millisecond
)

// decision is a line of the log.
type decision struct {
	Time     time.Time `json:"time"`
	Message  string    `json:"message"`
	ID       string    `json:"request_id"`
	Revision string    `json:"revision"`
	Outcome  string    `json:"outcome"`
	Duration float64   `json:"duration_ms"`
	Input    *question `json:"input"`
	Result   document  `json:"result,omitempty"`
}

// log writes decisions in batches, so that no decision wakes a goroutine or waits for a system call.
type log struct {
	guard   sync.Mutex
	waiting []*decision
	stop    chan struct{}
	done    sync.WaitGroup
	lost    prometheus.Counter
}

func newLog(to io.Writer, registry *prometheus.Registry) *log {
	l := &log{stop: make(chan struct{}), lost: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "opa_decision_log_dropped_total", Help: "Decisions that the log lacks, because it was too slow.",
	})}
	registry.MustRegister(l.lost)
	l.done.Go(func() { l.write(to) })
	return l
}

func (l *log) add(one *decision) {
	l.guard.Lock()
	defer l.guard.Unlock()
	if len(l.waiting) >= mostWaiting {
		l.lost.Inc()
		return
	}
	l.waiting = append(l.waiting, one)
}

func (l *log) write(to io.Writer) {
	lines := bufio.NewWriterSize(to, 64<<10)
	encoder := json.NewEncoder(lines)
	encoder.SetEscapeHTML(false)
	timer := time.NewTicker(batchTime)
	defer timer.Stop()
	for stopped := false; !stopped; {
		select {
		case <-timer.C:
		case <-l.stop:
			stopped = true
		}
		l.guard.Lock()
		batch := l.waiting
		l.waiting = nil
		l.guard.Unlock()
		for _, one := range batch {
			_ = encoder.Encode(one)
		}
		_ = lines.Flush()
	}
}

// close writes what waits.
func (l *log) close() {
	close(l.stop)
	l.done.Wait()
}
