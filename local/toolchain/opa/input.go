package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // rules of hours name time zones

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/open-policy-agent/opa/v1/ast"
)

const (
	mostReason = 200 // characters of a reason for breaking the glass
	mostModel  = 200
)

// question is all that a policy sees of a request. Keys, cookies, queries and bodies are not part of it, so that no rule
// and no log of decisions can show them. The log has its JSON, without the caller's address and user.
type question struct {
	Method     string  `json:"method"`
	Target     string  `json:"target"`
	Model      string  `json:"model,omitempty"`
	BreakGlass string  `json:"break_glass,omitempty"`
	Caller     *caller `json:"caller,omitempty"`
	id         string
	address    string
	anthropic  bool
	key        bool
	directory  bool
}

func (a *authorizer) question(r *authv3.CheckRequest) *question {
	request := r.GetAttributes().GetRequest().GetHttp()
	headers := request.GetHeaders()
	target, _, _ := strings.Cut(request.GetPath(), "?")
	if len(target) > 1 {
		target = strings.TrimSuffix(target, "/")
	}
	_, anthropic := headers["anthropic-version"]
	asked := &question{
		Method: request.GetMethod(), Target: target, id: headers["x-request-id"], anthropic: anthropic,
		address:   r.GetAttributes().GetSource().GetAddress().GetSocketAddress().GetAddress(),
		directory: a.known.isReady(),
		Model:     cut(modelIn(request.GetBody()), mostModel),
	}
	if key := keyOf(headers); key != "" {
		digest := sha256.Sum256([]byte(key))
		asked.key = true
		asked.Caller = a.known.find(hex.EncodeToString(digest[:]))
	}
	asked.BreakGlass = cut(strings.TrimSpace(headers["x-break-glass"]), mostReason)
	return asked
}

// input is the question as the evaluator's value.
func (q *question) input(now time.Time) ast.Value {
	var parts []*ast.Term
	for part := range strings.SplitSeq(strings.TrimPrefix(q.Target, "/"), "/") {
		parts = append(parts, ast.StringTerm(part))
	}
	found := ast.NewObject(
		field("method", ast.InternedTerm(q.Method)),
		field("target", ast.StringTerm(q.Target)),
		field("path", ast.ArrayTerm(parts...)),
		field("request_id", ast.StringTerm(q.id)),
		field("address", ast.StringTerm(q.address)),
		field("time", ast.NumberTerm(json.Number(strconv.FormatInt(now.UnixNano(), 10)))),
		field("anthropic", ast.InternedTerm(q.anthropic)),
		field("directory", ast.InternedTerm(q.directory)),
	)
	if q.key {
		found.Insert(ast.InternedTerm("key"), ast.InternedTerm(true))
	}
	if q.Caller != nil {
		found.Insert(ast.InternedTerm("caller"), ast.NewTerm(q.Caller.shown()))
	}
	for name, text := range map[string]string{"break_glass": q.BreakGlass, "model": q.Model} {
		if text != "" {
			found.Insert(ast.InternedTerm(name), ast.StringTerm(text))
		}
	}
	return found
}

func field(name string, value *ast.Term) [2]*ast.Term { return ast.Item(ast.InternedTerm(name), value) }

func init() {
	ast.InternStringTerm(
		"method", "target", "path", "request_id", "address", "time", "anthropic", "directory", "key", "caller",
		"break_glass", "model", "tenant", "id", "user", "scopes", "expires",
		"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE",
	)
}

// shown is the caller as the evaluator's value, made once: callers do not change.
func (c *caller) shown() ast.Value {
	c.once.Do(func() {
		scopes := make([]*ast.Term, 0, len(c.Scopes))
		for _, scope := range c.Scopes {
			scopes = append(scopes, ast.StringTerm(scope))
		}
		found := ast.NewObject(
			field("tenant", ast.StringTerm(c.Tenant)), field("id", ast.StringTerm(c.ID)),
			field("user", ast.StringTerm(c.User)), field("scopes", ast.ArrayTerm(scopes...)),
		)
		if c.Expires != nil {
			found.Insert(ast.InternedTerm("expires"), ast.FloatNumberTerm(*c.Expires))
		}
		c.value = found
	})
	return c.value
}

func cut(text string, most int) string {
	if letters := []rune(text); len(letters) > most {
		return string(letters[:most])
	}
	return text
}

// keyOf reads the API key as the services do (kit.directory.bearer): a bearer token, the password of basic
// authentication, or x-api-key. A page of another site may have made a browser send a password: that counts as no key.
func keyOf(headers map[string]string) string {
	value := headers["authorization"]
	if len(value) >= 6 && strings.EqualFold(value[:6], "basic ") {
		if site := headers["sec-fetch-site"]; site != "" && site != "none" && site != "same-origin" {
			return ""
		}
		if text, err := base64.StdEncoding.DecodeString(value[6:]); err == nil {
			_, password, _ := strings.Cut(string(text), ":")
			return password
		}
	}
	if len(value) >= 7 && strings.EqualFold(value[:7], "bearer ") {
		return strings.TrimSpace(value[7:])
	}
	return headers["x-api-key"]
}

// modelIn is the field "model" of a JSON body of which the gateway shows the beginning; empty if it is not there.
func modelIn(body string) string {
	if body == "" {
		return ""
	}
	decoder := json.NewDecoder(strings.NewReader(body))
	if first, err := decoder.Token(); err != nil || first != json.Delim('{') {
		return ""
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return ""
		}
		if name == "model" {
			var model string
			if decoder.Decode(&model) != nil {
				return ""
			}
			return model
		}
		var skipped json.RawMessage
		if decoder.Decode(&skipped) != nil {
			return ""
		}
	}
	return ""
}
