package main

import (
	"io"
	"net/http"
	"sync"

	"golang.org/x/sync/semaphore"
)

// While a body is parsed, by the adapter and by the simulator, and cut into
// tokens, it takes up to 90 times its size: 365 MB for 4 MiB of brackets.
const (
	maxBodyBytes = 512 << 10
	smallBytes   = 8 << 10
	drainBytes   = 16 << 20 // the Router's limit
)

// room lets requests in as far as the process has memory for their bodies.
// Small ones always come in; what is larger waits until all that are in have
// no more than one largest body together.
func room(next http.Handler) http.Handler {
	large := semaphore.NewWeighted(maxBodyBytes)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		size := r.ContentLength
		if size < 0 {
			size = maxBodyBytes
		}
		if size > maxBodyBytes {
			// A caller that still sends would not see the answer.
			_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, drainBytes))
			fail(w, http.StatusRequestEntityTooLarge, "", "the body is too large: the simulator reads at most 512 KiB")
			return
		}
		if size > smallBytes {
			if large.Acquire(r.Context(), size) != nil {
				return // the caller has gone
			}
			answer := &releasing{ResponseWriter: w, release: sync.OnceFunc(func() { large.Release(size) })}
			defer answer.release()
			w = answer
		}
		next.ServeHTTP(w, r)
	})
}

// releasing gives a request's room back when its answer begins: by then the
// body is tokens, and a stream may go on for long.
type releasing struct {
	http.ResponseWriter

	release func()
}

func (r *releasing) WriteHeader(status int) {
	r.release()
	r.ResponseWriter.WriteHeader(status)
}

func (r *releasing) Write(content []byte) (int, error) {
	r.release()
	return r.ResponseWriter.Write(content) //nolint:wrapcheck
}

// Flush serves those who ask for an http.Flusher.
func (r *releasing) Flush() {
	_ = http.NewResponseController(r.ResponseWriter).Flush()
}

// Unwrap serves http.ResponseController.
func (r *releasing) Unwrap() http.ResponseWriter { return r.ResponseWriter }
