package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"
)

// keyFileVariable names the variable with the path of the key that callers have to show.
const keyFileVariable = "MODEL_KEY_FILE"

var errNoKey = errors.New("the file in " + keyFileVariable + " has no key; a model server without one would answer anybody")

// keyOfCallers reads the key. It comes from a file, since other processes can read a process' environment.
func keyOfCallers() (string, error) {
	content, err := os.ReadFile(os.Getenv(keyFileVariable))
	key := strings.TrimSpace(string(content))
	if err != nil || key == "" {
		return "", errors.Join(errNoKey, err)
	}
	return key, nil
}

// openPaths are asked by the kubelet and by Prometheus, which have no key. They say nothing of requests.
var openPaths = map[string]bool{
	"GET /health": true, "GET /health/ready": true, "GET /ready": true, "GET /metrics": true,
}

// door lets in who shows the key. Nothing of a refused request is read but its head.
func door(key string, next http.Handler) http.Handler {
	known := sha256.Sum256([]byte(key))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !openPaths[r.Method+" "+r.URL.Path] && !shows(r, known) {
			refuseStranger(w)
			return
		}
		// The simulator behind the door has no use for the key.
		r.Header.Del("authorization")
		next.ServeHTTP(w, r)
	})
}

func shows(r *http.Request, known [sha256.Size]byte) bool {
	scheme, shown, _ := strings.Cut(r.Header.Get("authorization"), " ")
	digest := sha256.Sum256([]byte(shown))
	return strings.EqualFold(scheme, "bearer") && subtle.ConstantTimeCompare(digest[:], known[:]) == 1
}

func refuseStranger(w http.ResponseWriter) {
	w.Header().Set("content-type", "application/json")
	w.Header().Set("www-authenticate", "Bearer")
	w.Header().Set("connection", "close")
	w.WriteHeader(http.StatusUnauthorized)
	_ = json.NewEncoder(w).Encode(object{"error": object{
		"message": "This model server wants its key as authorization: Bearer.",
		"type":    "authentication_error", "param": nil, "code": "invalid_api_key",
	}})
}
