package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"
	_ "time/tzdata" // rules of hours name time zones

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
)

const (
	mostReason = 200 // characters of a reason for breaking the glass
	mostModel  = 200
)

// input is all that a policy sees of a request. Keys, cookies, queries and bodies are not part of it, so that no rule
// and no log of decisions can show them.
func (a *authorizer) input(r *authv3.CheckRequest, now time.Time) document {
	request := r.GetAttributes().GetRequest().GetHttp()
	headers := request.GetHeaders()
	target, _, _ := strings.Cut(request.GetPath(), "?")
	if len(target) > 1 {
		target = strings.TrimSuffix(target, "/")
	}
	_, anthropic := headers["anthropic-version"]
	found := document{
		"method":     request.GetMethod(),
		"target":     target,
		"path":       strings.Split(strings.TrimPrefix(target, "/"), "/"),
		"request_id": headers["x-request-id"],
		"address":    r.GetAttributes().GetSource().GetAddress().GetSocketAddress().GetAddress(),
		"time":       now.UnixNano(),
		"anthropic":  anthropic,
		"directory":  a.known.isReady(),
	}
	if key := keyOf(headers); key != "" {
		digest := sha256.Sum256([]byte(key))
		found["key"] = true
		if holder := a.known.find(hex.EncodeToString(digest[:])); holder != nil {
			found["caller"] = holder.shown()
		}
	}
	if reason := strings.TrimSpace(headers["x-break-glass"]); reason != "" {
		found["break_glass"] = cut(reason, mostReason)
	}
	if model := modelIn(request.GetBody()); model != "" {
		found["model"] = cut(model, mostModel)
	}
	return found
}

func (c *caller) shown() document {
	found := document{"tenant": c.Tenant, "id": c.ID, "user": c.User, "scopes": c.Scopes}
	if c.Scopes == nil {
		found["scopes"] = []string{}
	}
	if c.Expires != nil {
		found["expires"] = *c.Expires
	}
	return found
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
