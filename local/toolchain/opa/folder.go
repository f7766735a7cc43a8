package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// folder offers the bundle of a folder on loopback. OPA reads a file source only once; from HTTP it polls,
// verifies each version and keeps a copy. So both kinds of source have one path.
type folder struct {
	listener net.Listener
	server   *http.Server
}

func offer(at string) (*folder, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	file := filepath.Join(at, bundleFile)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, err := os.ReadFile(file)
		if err != nil {
			http.Error(w, "the folder has no bundle", http.StatusNotFound)
			return
		}
		// The file's time is no sign of its content: mounted volumes replace it with a link.
		w.Header().Set("ETag", fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(content))))
		w.Header().Set("Content-Type", "application/vnd.openpolicyagent.bundles")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	})
	f := &folder{listener, &http.Server{Handler: handler, ReadHeaderTimeout: headTime}}
	go func() { _ = f.server.Serve(listener) }()
	return f, nil
}

func (f *folder) url() string { return fmt.Sprintf("http://%s/%s", f.listener.Addr(), bundleFile) }

func (f *folder) close() { _ = f.server.Close() }
