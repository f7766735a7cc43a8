package main

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// The Responses API over chat completions. Source: OpenAI, API reference, "Responses" and "Streaming events".

// chatOf is the chat completion that a response stands for.
func chatOf(request object) (object, error) {
	made := object{}
	for _, name := range []string{"model", "temperature", "top_p", "user", "parallel_tool_calls"} {
		if value := request[name]; value != nil {
			made[name] = value
		}
	}
	if limit := request["max_output_tokens"]; limit != nil {
		made["max_completion_tokens"] = limit
	}
	messages := []any{}
	if text := textOf(request["instructions"]); text != "" {
		messages = append(messages, object{"role": "system", "content": text})
	}
	switch given := request["input"].(type) {
	case string:
		messages = append(messages, object{"role": "user", "content": given})
	case []any:
		for n, one := range given {
			message, err := messageOf(n, one)
			if err != nil {
				return nil, err
			}
			if message != nil {
				messages = append(messages, message)
			}
		}
	}
	made["messages"] = messages
	tools, _ := request["tools"].([]any)
	functions := []any{}
	for n, one := range tools {
		tool, _ := one.(object)
		if tool["type"] != "function" {
			return nil, refusal{fmt.Sprintf("tools.%d.type", n), "the simulator calls functions only"}
		}
		functions = append(functions, object{"type": "function", "function": tool})
	}
	if len(functions) > 0 {
		made["tools"], made["tool_choice"] = functions, request["tool_choice"]
	}
	if reasoning, ok := request["reasoning"].(object); ok && reasoning["effort"] != nil {
		made["reasoning_effort"] = reasoning["effort"]
	}
	if text, ok := request["text"].(object); ok {
		if format, ok := text["format"].(object); ok {
			made["response_format"] = object{"type": format["type"], "json_schema": format}
		}
	}
	return made, nil
}

func messageOf(n int, item any) (object, error) {
	given, _ := item.(object)
	switch given["type"] {
	case nil, "message":
		return object{"role": given["role"], "content": textOf(given["content"])}, nil
	case "function_call":
		return object{"role": "assistant", "content": "(calls a tool)"}, nil
	case "function_call_output":
		return object{"role": "tool", "content": textOf(given["output"])}, nil
	case "reasoning":
		return nil, nil
	}
	return nil, refusal{fmt.Sprintf("input.%d.type", n), fmt.Sprintf("%v is not supported", given["type"])}
}

func (f *front) responses(w http.ResponseWriter, r *http.Request) {
	request, ok := read(w, r)
	if !ok {
		return
	}
	chat, err := chatOf(request)
	if err != nil {
		refuse(w, err)
		return
	}
	made, err := planOf(chat)
	if err != nil {
		refuse(w, err)
		return
	}
	answer, ok := f.ask(w, r, chat)
	if !ok {
		return
	}
	if !made.plain() {
		fit(answer, made, limitOf(chat))
	}
	response := responseOf(request, answer)
	if stream, _ := request["stream"].(bool); stream {
		streamResponse(w, response)
		return
	}
	w.Header().Set("content-type", "application/json")
	_ = json.NewEncoder(w).Encode(response)
}

// responseOf is a finished response.
func responseOf(request, answer object) object {
	choices, _ := answer["choices"].([]any)
	output := []any{}
	status := "completed"
	var incomplete any
	id := fmt.Sprint(answer["id"])
	if len(choices) > 0 {
		choice, _ := choices[0].(object)
		message, _ := choice["message"].(object)
		if choice["finish_reason"] == "length" {
			status, incomplete = "incomplete", object{"reason": "max_output_tokens"}
		}
		if thought, ok := message["reasoning_content"].(string); ok {
			part := object{"type": "summary_text", "text": thought}
			output = append(output, object{"type": "reasoning", "id": "rs_" + id, "summary": []any{part}})
		}
		calls, _ := message["tool_calls"].([]any)
		for n, one := range calls {
			call, _ := one.(object)
			function, _ := call["function"].(object)
			output = append(output, object{
				"type": "function_call", "id": fmt.Sprintf("fc_%s_%d", id, n), "call_id": call["id"],
				"name": function["name"], "arguments": function["arguments"], "status": "completed",
			})
		}
		if len(calls) == 0 {
			part := object{
				"type": "output_text", "text": textOf(message["content"]), "annotations": []any{}, "logprobs": []any{},
			}
			output = append(output, object{
				"type": "message", "id": "msg_" + id, "role": "assistant", "status": "completed", "content": []any{part},
			})
		}
	}
	counted, _ := answer["usage"].(object)
	response := object{
		"id": "resp_" + id, "object": "response", "created_at": answer["created"], "model": answer["model"],
		"status": status, "incomplete_details": incomplete, "error": nil, "output": output,
		"parallel_tool_calls": true, "tool_choice": "auto", "tools": []any{}, "instructions": nil, "metadata": nil,
		"temperature": nil, "top_p": nil, "text": object{"format": object{"type": "text"}},
		"usage": object{
			"input_tokens": counted["prompt_tokens"], "output_tokens": counted["completion_tokens"],
			"total_tokens": counted["total_tokens"], "input_tokens_details": object{"cached_tokens": 0},
			"output_tokens_details": object{"reasoning_tokens": 0},
		},
	}
	for _, name := range []string{
		"tools", "tool_choice", "instructions", "metadata", "temperature", "top_p", "text", "parallel_tool_calls",
	} {
		if value := request[name]; value != nil {
			response[name] = value
		}
	}
	return response
}

// streamResponse sends a finished response in pieces.
func streamResponse(w http.ResponseWriter, response object) {
	out := newEvents(w)
	number := 0
	send := func(kind string, content object) {
		content["type"], content["sequence_number"] = kind, number
		number++
		out.send(kind, content)
	}
	begun := object{}
	for name, value := range response {
		begun[name] = value
	}
	begun["status"], begun["output"], begun["usage"] = "in_progress", []any{}, nil
	begun["incomplete_details"] = nil
	send("response.created", object{"response": begun})
	send("response.in_progress", object{"response": begun})
	output, _ := response["output"].([]any)
	for n, one := range output {
		item, _ := one.(object)
		empty := object{}
		for name, value := range item {
			empty[name] = value
		}
		empty["status"] = "in_progress"
		places := func(more object) object {
			made := object{"item_id": item["id"], "output_index": n}
			for name, value := range more {
				made[name] = value
			}
			return made
		}
		switch item["type"] {
		case "message":
			content, _ := item["content"].([]any)
			part, _ := content[0].(object)
			text, _ := part["text"].(string)
			empty["content"] = []any{}
			send("response.output_item.added", object{"output_index": n, "item": empty})
			blank := object{"type": "output_text", "text": "", "annotations": []any{}, "logprobs": []any{}}
			send("response.content_part.added", places(object{"content_index": 0, "part": blank}))
			for _, piece := range pieces(text) {
				send("response.output_text.delta", places(object{"content_index": 0, "delta": piece, "logprobs": []any{}}))
			}
			send("response.output_text.done", places(object{"content_index": 0, "text": text, "logprobs": []any{}}))
			send("response.content_part.done", places(object{"content_index": 0, "part": part}))
		case "function_call":
			text, _ := item["arguments"].(string)
			empty["arguments"] = ""
			send("response.output_item.added", object{"output_index": n, "item": empty})
			for _, piece := range pieces(text) {
				send("response.function_call_arguments.delta", places(object{"delta": piece}))
			}
			send("response.function_call_arguments.done", places(object{"arguments": text, "name": item["name"]}))
		default:
			send("response.output_item.added", object{"output_index": n, "item": item})
		}
		send("response.output_item.done", object{"output_index": n, "item": item})
	}
	kind := "response.completed"
	if response["status"] == "incomplete" {
		kind = "response.incomplete"
	}
	send(kind, object{"response": response})
}
