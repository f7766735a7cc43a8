package main

import (
	"encoding/json"
	"fmt"
	"strings"
)

// What a request wants instead of prose.

type call struct {
	Name      string
	Arguments string
}

type plan struct {
	content   *string // JSON in place of prose
	calls     []call
	reasoning string
}

func (p plan) plain() bool { return p.content == nil && len(p.calls) == 0 && p.reasoning == "" }

// refusal is a mistake in a request.
type refusal struct{ param, message string }

func (r refusal) Error() string { return r.param + ": " + r.message }

// question is the text of the newest message of a user, and whether a tool has answered since.
func question(messages []any) (string, bool) {
	answered := false
	for n := len(messages) - 1; n >= 0; n-- {
		message, _ := messages[n].(object)
		switch message["role"] {
		case "tool", "function":
			answered = true
		case "user":
			return textOf(message["content"]), answered
		}
	}
	return "", answered
}

// textOf is the text of a message's content, plain or in parts.
func textOf(content any) string {
	switch given := content.(type) {
	case string:
		return given
	case []any:
		var texts []string
		for _, part := range given {
			switch one := part.(type) {
			case string:
				texts = append(texts, one)
			case object:
				for _, name := range []string{"text", "refusal"} {
					if text, ok := one[name].(string); ok {
						texts = append(texts, text)
					}
				}
			}
		}
		return strings.Join(texts, "\n")
	}
	return ""
}

// planOf decides how a chat completion is answered. Raises a refusal for what the simulator cannot honour.
func planOf(request object) (plan, error) {
	var made plan
	messages, _ := request["messages"].([]any)
	asked, answered := question(messages)
	if effort, ok := request["reasoning_effort"].(string); ok && effort != "none" {
		made.reasoning = "A simulator does not think; it was asked to do so with effort " + effort + "."
	}
	tools, _ := request["tools"].([]any)
	chosen, err := choose(tools, request["tool_choice"], asked, answered)
	if err != nil {
		return made, err
	}
	for _, function := range chosen {
		name, _ := function["name"].(string)
		schema, _ := function["parameters"].(object)
		if schema == nil {
			schema = object{"type": "object"}
		}
		text, err := written(schema, asked)
		if err != nil {
			return made, refusal{"tools", fmt.Sprintf("parameters of %s: %v", name, err)}
		}
		made.calls = append(made.calls, call{name, text})
	}
	if len(made.calls) > 0 {
		return made, nil
	}
	schema, wanted, err := wantedSchema(request)
	if err != nil || !wanted {
		return made, err
	}
	text, err := written(schema, asked)
	if err != nil {
		return made, refusal{"response_format", err.Error()}
	}
	made.content = &text
	return made, nil
}

func written(schema object, asked string) (string, error) {
	value, err := newMaker(schema, asked).value(schema, 0)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(value)
	return string(text), err //nolint:wrapcheck
}

// wantedSchema is what the answer has to fit, wherever the request says it.
func wantedSchema(request object) (object, bool, error) {
	for _, name := range []string{"guided_regex", "guided_choice", "guided_grammar"} {
		if request[name] != nil {
			return nil, false, refusal{name, "the simulator makes JSON only"}
		}
	}
	if schema, ok := request["guided_json"].(object); ok {
		return schema, true, nil
	}
	if outputs, ok := request["structured_outputs"].(object); ok {
		schema, ok := outputs["json"].(object)
		if !ok {
			return nil, false, refusal{"structured_outputs", "the simulator makes JSON of a schema only"}
		}
		return schema, true, nil
	}
	format, _ := request["response_format"].(object)
	switch format["type"] {
	case "json_object":
		return object{"type": "object", "properties": object{"answer": object{"type": "string"}}}, true, nil
	case "json_schema":
		described, _ := format["json_schema"].(object)
		if schema, ok := described["schema"].(object); ok {
			return schema, true, nil
		}
		return nil, false, refusal{"response_format.json_schema.schema", "is required"}
	}
	return nil, false, nil
}

// choose takes the tools that are called: the named one, or the one whose words are most in the question. Once a tool
// has answered, the model speaks, unless the request requires a call.
func choose(tools []any, choice any, asked string, answered bool) ([]object, error) {
	var functions []object
	for n, tool := range tools {
		described, _ := tool.(object)
		function, ok := described["function"].(object)
		if !ok {
			return nil, refusal{fmt.Sprintf("tools.%d.type", n), "the simulator calls functions only"}
		}
		functions = append(functions, function)
	}
	if named, ok := choice.(object); ok {
		if inner, ok := named["function"].(object); ok {
			named = inner
		}
		for _, function := range functions {
			if function["name"] == named["name"] {
				return []object{function}, nil
			}
		}
		return nil, refusal{"tool_choice", "names no tool"}
	}
	if choice == "none" || len(functions) == 0 || (answered && choice != "required") {
		return nil, nil
	}
	best, most := functions[0], -1
	lower := strings.ToLower(asked)
	for _, function := range functions {
		score := 0
		name, _ := function["name"].(string)
		description, _ := function["description"].(string)
		for _, word := range strings.FieldsFunc(strings.ToLower(name), notLetter) {
			if len(word) > 2 && strings.Contains(lower, word) {
				score += 4
			}
		}
		for _, word := range strings.FieldsFunc(strings.ToLower(description), notLetter) {
			if len(word) > 4 && strings.Contains(lower, word) {
				score++
			}
		}
		if score > most {
			best, most = function, score
		}
	}
	return []object{best}, nil
}

func notLetter(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }

var passed = []string{
	"model", "max_tokens", "max_completion_tokens", "n", "temperature", "top_p", "seed", "user", "stop", "ignore_eos",
	"logprobs", "top_logprobs", "stream", "stream_options", "presence_penalty", "frequency_penalty", "logit_bias",
}

// simulated is the request as the simulator takes it: text only, without what it would refuse.
func simulated(request object) object {
	made := object{}
	for _, name := range passed {
		if value := request[name]; value != nil {
			made[name] = value
		}
	}
	messages, _ := request["messages"].([]any)
	said := []any{}
	for _, one := range messages {
		message, _ := one.(object)
		role, _ := message["role"].(string)
		switch role {
		case "developer":
			role = "system"
		case "tool", "function", "":
			role = "user"
		}
		text := textOf(message["content"])
		if text == "" {
			text = "(no text)"
		}
		said = append(said, object{"role": role, "content": text})
	}
	made["messages"] = said
	return made
}
