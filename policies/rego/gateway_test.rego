package cogniforge.gateway_test

import data.cogniforge.gateway

installation := {
	"exact": {
		"GET": {
			"/": {"scopes": null},
			"/v1/self": {"scopes": []},
			"/v1/tenants": {"scopes": ["admin"]},
		},
		"POST": {
			"/v1/chat/completions": {"scopes": ["inference"], "model": true},
			"/v1/messages": {"scopes": ["inference"], "model": true},
		},
	},
	"templates": {"GET": {"3": [
		{"path": ["v1", "models", "*"], "scopes": ["inference", "embeddings"]},
		{"path": ["v1", "*", "*"], "scopes": ["admin"]},
	]}},
	"prefixes": [{"path": ["v1", "notes"], "scopes": ["inference"]}],
	"regions": {"small": "eu", "large": "us"},
	"tenants": {
		"acme": {"models": ["small", "nowhere"], "regions": ["eu"]},
		"night": {
			"time_zone": "Europe/Berlin",
			"hours": [{"days": ["Monday", "Friday"], "from": 480, "until": 1080}],
		},
	},
}

# Friday, 2026-11-27, 09:30 in Berlin.
friday := 1795768200000000000

hour := 3600000000000

holder(tenant, scopes) := {"tenant": tenant, "id": "k1", "scopes": scopes}

request(method, target, caller) := {
	"method": method,
	"target": target,
	"path": split(trim_prefix(target, "/"), "/"),
	"request_id": "r1",
	"time": friday,
	"anthropic": false,
	"directory": true,
	"key": true,
	"caller": caller,
}

without_key(method, target) := object.remove(request(method, target, {}), ["key", "caller"])

decided(asked) := result if {
	result := gateway.decision with input as asked with data.installation as installation
}

rule(asked) := decided(asked).rule

chat(tenant, model) := object.union(request("POST", "/v1/chat/completions", holder(tenant, ["inference"])), {"model": model})

test_a_public_operation_needs_no_key if rule(without_key("GET", "/")) == "allowed"

test_head_is_decided_as_get if rule(without_key("HEAD", "/")) == "allowed"

test_an_operation_without_a_scope_needs_any_key if {
	rule(request("GET", "/v1/self", holder("acme", []))) == "allowed"
	rule(without_key("GET", "/v1/self")) == "invalid_api_key"
}

test_an_unknown_key_is_refused if {
	answer := decided(object.remove(request("GET", "/v1/self", {}), ["caller"]))
	answer.status == 401
	answer.body.error.code == "invalid_api_key"
	not answer.allowed
}

test_an_expired_key_is_refused if {
	expired := object.union(holder("acme", ["inference"]), {"expires": 1795768200})
	rule(request("GET", "/v1/self", expired)) == "invalid_api_key"
	valid := object.union(holder("acme", ["inference"]), {"expires": 1795768201})
	rule(request("GET", "/v1/self", valid)) == "allowed"
}

test_a_scope_is_needed if {
	rule(request("POST", "/v1/chat/completions", holder("other", ["inference"]))) == "allowed"
	answer := decided(request("POST", "/v1/chat/completions", holder("other", ["billing"])))
	answer.status == 403
	answer.body.error.message == "The API key lacks the scope. This path needs one of: inference."
}

test_an_operator_has_every_scope if rule(request("POST", "/v1/chat/completions", holder("other", ["admin"]))) == "allowed"

test_only_operators_reach_their_paths if {
	every scope in ["inference", "manage", "impersonate"] {
		rule(request("GET", "/v1/tenants", holder("other", [scope]))) == "missing_scope"
	}
	rule(request("GET", "/v1/tenants", holder("other", ["admin"]))) == "allowed"
}

test_the_most_special_template_counts if {
	rule(request("GET", "/v1/models/small", holder("other", ["embeddings"]))) == "allowed"
	rule(request("GET", "/v1/other/small", holder("other", ["embeddings"]))) == "missing_scope"
}

test_a_variable_is_not_empty if rule(request("GET", "/v1/models/", holder("other", ["admin"]))) == "unknown_url"

test_operations_of_own_services_are_below_their_prefix if {
	rule(request("PUT", "/v1/notes/a/b/c", holder("other", ["inference"]))) == "allowed"
	rule(request("PUT", "/v1/notes", holder("other", ["billing"]))) == "missing_scope"
	rule(request("PUT", "/v1/notesbook", holder("other", ["admin"]))) == "unknown_url"
}

test_an_unknown_operation_is_refused if {
	answer := decided(request("DELETE", "/v1/self", holder("other", ["admin"])))
	answer.status == 404
	not answer.allowed
}

test_without_the_directory_there_is_no_decision if {
	answer := decided(object.union(request("GET", "/v1/self", {}), {"directory": false}))
	answer.undecided
	not answer.allowed
}

test_without_the_directory_public_operations_work if {
	rule(object.union(without_key("GET", "/"), {"directory": false})) == "allowed"
}

test_a_tenant_has_its_models_only if {
	rule(chat("acme", "small")) == "allowed"
	rule(chat("acme", "large")) == "model_not_allowed"
	rule(request("POST", "/v1/chat/completions", holder("acme", ["inference"]))) == "model_not_allowed"
}

test_a_model_of_an_unknown_region_is_refused if rule(chat("acme", "nowhere")) == "region_not_allowed"

test_regions_limit_models if {
	eu := object.union(installation, {"tenants": {"acme": {"models": ["large", "small"]}}})
	answer := gateway.decision.rule with input as chat("acme", "large") with data.installation as eu
	answer == "region_not_allowed"
}

test_models_do_not_limit_other_operations if rule(request("GET", "/v1/self", holder("acme", []))) == "allowed"

test_a_tenant_has_its_hours if {
	asked := request("GET", "/v1/self", holder("night", []))
	rule(asked) == "allowed"
	rule(object.union(asked, {"time": friday - (2 * hour)})) == "outside_hours"
	rule(object.union(asked, {"time": friday + (9 * hour)})) == "outside_hours"
	rule(object.union(asked, {"time": friday + (24 * hour)})) == "outside_hours"
}

test_anthropic_has_its_own_format if {
	answer := decided(object.remove(request("POST", "/v1/messages", {}), ["caller"]))
	answer.body == {
		"type": "error",
		"error": {"type": "authentication_error", "message": "The API key is missing or unknown."},
		"request_id": "r1",
	}
	other := decided(object.union(without_key("GET", "/v1/self"), {"anthropic": true}))
	other.body.type == "error"
}

own_rule := {"deny": {"Nobody may."}}

test_own_rules_only_deny if {
	asked := request("GET", "/v1/tenants", holder("other", ["admin"]))
	answer := gateway.decision with input as asked with data.installation as installation with data.own as own_rule
	answer.status == 403
	answer.body.error.message == "Nobody may."
	open := {"allow": true, "deny": set()}
	other := request("GET", "/v1/tenants", holder("other", ["manage"]))
	still := gateway.decision with input as other with data.installation as installation with data.own as open
	still.rule == "missing_scope"
}

broken(scopes, reason) := answer if {
	asked := object.union(request("GET", "/v1/self", holder("other", scopes)), {"break_glass": reason})
	answer := gateway.decision with input as asked with data.installation as installation with data.own as own_rule
}

test_an_operator_can_break_the_glass if {
	answer := broken(["admin"], "incident 12: the rule denies all")
	answer.allowed
	answer.rule == "break_glass"
	answer.overridden == "own_rule"
	answer.break_glass == "incident 12: the rule denies all"
}

test_the_glass_needs_an_operator_and_a_reason if {
	not broken(["manage"], "incident 12: the rule denies all").allowed
	not broken(["admin"], "urgent").allowed
}

test_the_glass_gives_no_scope if {
	asked := object.union(request("GET", "/v1/tenants", holder("other", ["manage"])), {"break_glass": "incident 12: all"})
	rule(asked) == "missing_scope"
}
