package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
)

const (
	charactersPerToken = 4
	pieceLength        = 16 // characters of a streamed piece
)

type front struct {
	client *http.Client
	proxy  *httputil.ReverseProxy
}

func newFront(dial func(context.Context, string, string) (net.Conn, error)) http.Handler {
	transport := &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 64}
	target := &url.URL{Scheme: "http", Host: "simulator"}
	f := &front{
		client: &http.Client{Transport: transport},
		proxy: &httputil.ReverseProxy{
			Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
			Transport:     transport,
			FlushInterval: -1,
		},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", f.chat)
	mux.HandleFunc("POST /v1/responses", f.responses)
	mux.HandleFunc("POST /v1/completions", f.completions)
	mux.HandleFunc("POST /v1/embeddings", func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusNotFound, "model", "this is a chat model, which makes no embeddings")
	})
	for _, path := range []string{
		"POST /tokenize", "GET /v1/models", "GET /metrics", "GET /health", "GET /health/ready", "GET /ready",
	} {
		mux.Handle(path, f.proxy)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, "", "there is no "+r.Method+" "+r.URL.Path)
	})
	return room(mux)
}

func fail(w http.ResponseWriter, status int, param, message string) {
	var name any
	if param != "" {
		name, message = param, param+": "+message
	}
	w.Header().Set("content-type", "application/json")
	w.WriteHeader(status)
	code := "invalid_value"
	if status == http.StatusNotFound {
		code = "not_found"
	}
	_ = json.NewEncoder(w).Encode(object{"error": object{
		"message": message, "type": "invalid_request_error", "param": name, "code": code,
	}})
}

// read decodes a request; false: it was refused.
func read(w http.ResponseWriter, r *http.Request) (object, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	if err != nil {
		fail(w, http.StatusRequestEntityTooLarge, "", "the body is too large")
		return nil, false
	}
	request := object{}
	if err := json.Unmarshal(body, &request); err != nil {
		fail(w, http.StatusBadRequest, "", "the body is no JSON object: "+err.Error())
		return nil, false
	}
	return request, true
}

func (f *front) pass(w http.ResponseWriter, r *http.Request, request object) {
	body, _ := json.Marshal(request)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.Header.Set("content-length", fmt.Sprint(len(body)))
	f.proxy.ServeHTTP(w, r)
}

func (f *front) completions(w http.ResponseWriter, r *http.Request) {
	request, ok := read(w, r)
	if !ok {
		return
	}
	for _, name := range []string{"response_format", "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar"} {
		if request[name] != nil {
			fail(w, http.StatusBadRequest, name, "the simulator makes JSON in chats only")
			return
		}
	}
	f.pass(w, r, request)
}

func (f *front) chat(w http.ResponseWriter, r *http.Request) {
	request, ok := read(w, r)
	if !ok {
		return
	}
	made, err := planOf(request)
	if err != nil {
		refuse(w, err)
		return
	}
	if made.plain() {
		f.pass(w, r, simulated(request))
		return
	}
	answer, ok := f.ask(w, r, request)
	if !ok {
		return
	}
	fit(answer, made, limitOf(request))
	if stream, _ := request["stream"].(bool); stream {
		options, _ := request["stream_options"].(object)
		streamChat(w, answer, options["include_usage"] == true)
		return
	}
	w.Header().Set("content-type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

func refuse(w http.ResponseWriter, err error) {
	var wrong refusal
	if errors.As(err, &wrong) {
		fail(w, http.StatusBadRequest, wrong.param, wrong.message)
		return
	}
	fail(w, http.StatusBadRequest, "", err.Error())
}

// ask takes a whole answer from the simulator; false: its refusal was passed on.
func (f *front) ask(w http.ResponseWriter, r *http.Request, request object) (object, bool) {
	sent := simulated(request)
	delete(sent, "stream")
	delete(sent, "stream_options")
	delete(sent, "logprobs")
	delete(sent, "top_logprobs")
	body, _ := json.Marshal(sent)
	inner, err := http.NewRequestWithContext(r.Context(), http.MethodPost, "http://simulator/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		fail(w, http.StatusBadGateway, "", err.Error())
		return nil, false
	}
	inner.Header = r.Header.Clone()
	inner.Header.Del("content-length")
	inner.Header.Del("accept-encoding")
	answered, err := f.client.Do(inner)
	if err != nil {
		fail(w, http.StatusBadGateway, "", err.Error())
		return nil, false
	}
	defer answered.Body.Close()
	content, err := io.ReadAll(answered.Body)
	if err != nil {
		fail(w, http.StatusBadGateway, "", err.Error())
		return nil, false
	}
	answer := object{}
	if answered.StatusCode != http.StatusOK || json.Unmarshal(content, &answer) != nil {
		w.Header().Set("content-type", "application/json")
		w.WriteHeader(answered.StatusCode)
		_, _ = w.Write(content)
		return nil, false
	}
	return answer, true
}

func limitOf(request object) int {
	for _, name := range []string{"max_completion_tokens", "max_tokens"} {
		if limit, ok := request[name].(float64); ok && limit > 0 {
			return int(limit)
		}
	}
	return 0
}

// cut keeps as much of a text as the limit of tokens lets through.
func cut(text string, limit int) (string, bool) {
	letters := []rune(text)
	if limit == 0 || len(letters) <= limit*charactersPerToken {
		return text, false
	}
	return string(letters[:limit*charactersPerToken]), true
}

// fit puts what was planned in place of the simulator's prose, and counts it.
func fit(answer object, made plan, limit int) {
	choices, _ := answer["choices"].([]any)
	written := 0
	for n, one := range choices {
		choice, _ := one.(object)
		message := object{"role": "assistant", "content": nil}
		if before, ok := choice["message"].(object); ok {
			message["content"] = textOf(before["content"])
		}
		reason := choice["finish_reason"]
		if made.content != nil {
			text, short := cut(*made.content, limit)
			message["content"], reason = text, ended("stop", short)
		}
		if len(made.calls) > 0 {
			calls := []any{}
			short := false
			for place, planned := range made.calls {
				var text string
				text, short = cut(planned.Arguments, limit)
				written += len(text)
				calls = append(calls, object{
					"id": fmt.Sprintf("call_%v_%d_%d", answer["id"], n, place), "type": "function", "index": place,
					"function": object{"name": planned.Name, "arguments": text},
				})
			}
			message["content"], message["tool_calls"], reason = nil, calls, ended("tool_calls", short)
		}
		if made.reasoning != "" {
			message["reasoning_content"] = made.reasoning
			written += len(made.reasoning)
		}
		if text, ok := message["content"].(string); ok {
			written += len(text)
		}
		choice["message"], choice["finish_reason"] = message, reason
	}
	if usage, ok := answer["usage"].(object); ok {
		asked, _ := usage["prompt_tokens"].(float64)
		usage["completion_tokens"] = written/charactersPerToken + 1
		usage["total_tokens"] = int(asked) + written/charactersPerToken + 1
	}
}

func ended(reason string, short bool) string {
	if short {
		return "length"
	}
	return reason
}

func pieces(text string) []string {
	var made []string
	letters := []rune(text)
	for len(letters) > 0 {
		n := min(pieceLength, len(letters))
		made, letters = append(made, string(letters[:n])), letters[n:]
	}
	return made
}

type events struct {
	w     http.ResponseWriter
	flush func()
}

func newEvents(w http.ResponseWriter) events {
	w.Header().Set("content-type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	controller := http.NewResponseController(w)
	return events{w, func() { _ = controller.Flush() }}
}

func (e events) send(name string, content any) {
	text, _ := json.Marshal(content)
	if name != "" {
		_, _ = fmt.Fprintf(e.w, "event: %s\n", name)
	}
	_, _ = fmt.Fprintf(e.w, "data: %s\n\n", text)
	e.flush()
}

// streamChat sends a whole answer in pieces.
func streamChat(w http.ResponseWriter, answer object, usage bool) {
	out := newEvents(w)
	chunk := func(index any, delta object, reason any) {
		choice := object{"index": index, "delta": delta, "finish_reason": reason, "logprobs": nil}
		out.send("", object{
			"id": answer["id"], "object": "chat.completion.chunk", "created": answer["created"], "model": answer["model"],
			"choices": []any{choice},
		})
	}
	choices, _ := answer["choices"].([]any)
	for _, one := range choices {
		choice, _ := one.(object)
		message, _ := choice["message"].(object)
		index := choice["index"]
		chunk(index, object{"role": "assistant", "content": ""}, nil)
		if thought, ok := message["reasoning_content"].(string); ok {
			for _, piece := range pieces(thought) {
				chunk(index, object{"reasoning_content": piece}, nil)
			}
		}
		if text, ok := message["content"].(string); ok {
			for _, piece := range pieces(text) {
				chunk(index, object{"content": piece}, nil)
			}
		}
		calls, _ := message["tool_calls"].([]any)
		for _, made := range calls {
			call, _ := made.(object)
			function, _ := call["function"].(object)
			first := object{
				"index": call["index"], "id": call["id"], "type": "function",
				"function": object{"name": function["name"], "arguments": ""},
			}
			chunk(index, object{"tool_calls": []any{first}}, nil)
			text, _ := function["arguments"].(string)
			for _, piece := range pieces(text) {
				more := object{"index": call["index"], "function": object{"arguments": piece}}
				chunk(index, object{"tool_calls": []any{more}}, nil)
			}
		}
		chunk(index, object{}, choice["finish_reason"])
	}
	if usage {
		out.send("", object{
			"id": answer["id"], "object": "chat.completion.chunk", "created": answer["created"], "model": answer["model"],
			"choices": []any{}, "usage": answer["usage"],
		})
	}
	_, _ = io.Copy(w, strings.NewReader("data: [DONE]\n\n"))
	out.flush()
}
