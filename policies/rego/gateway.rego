# METADATA
# description: |
#   Decides about each request at the gateway. `data.installation` is derived from the services' records and documents
#   and from the configuration. `data.own` holds the installation's own rules, which can only deny more.
package cogniforge.gateway

import data.installation

# Without the directory of keys nobody knows whose key it is: the gateway's configuration says what happens then.
decision := {"allowed": false, "undecided": true, "rule": "directory"} if undecided

else := denied("unknown_url") if not operation

else := denied("invalid_api_key") if {
	asks_for_key
	not caller
}

else := denied("missing_scope") if {
	asks_for_key
	not permitted
}

else := {"allowed": true, "rule": "break_glass", "break_glass": input.break_glass, "overridden": limit} if {
	limit
	operator
	count(input.break_glass) >= 10
}

else := denied(limit) if limit

else := {"allowed": true, "rule": "allowed", "operators": true} if operation.scopes == ["admin"]

else := {"allowed": true, "rule": "allowed"}

# What limits a caller with the right scope. An operator can break the glass for these, and for nothing else.
limit := "outside_hours" if {
	rules.hours
	not within_hours
}

else := "model_not_allowed" if {
	operation.model
	rules.models
	not has_model
}

else := "region_not_allowed" if {
	operation.model
	rules.regions
	not has_region
}

else := "own_rule" if count(own_denials) > 0

own_denials := sort(data.own.deny)

# --- the operation ---------------------------------------------------------------------------------------------------

operation := one if one := installation.exact[method][input.target]

else := one if one := fitting[0]

else := one if one := below[0]

method := "GET" if input.method == "HEAD"

else := input.method

# Templates with fewer variables come first.
fitting := [one |
	some one in installation.templates[method][format_int(count(input.path), 10)]
	every index, part in one.path { same(part, input.path[index]) }
]

# Services of the installation's own, whose operations are not known. Longer prefixes come first.
below := [one |
	some one in installation.prefixes
	array.slice(input.path, 0, count(one.path)) == one.path
]

same("*", name) if name != ""

same(part, name) if part == name

asks_for_key if operation.scopes != null

# --- the caller ------------------------------------------------------------------------------------------------------

undecided if {
	asks_for_key
	input.key
	not input.directory
}

caller := input.caller if not expired

expired if input.caller.expires * 1000000000 <= input.time

operator if "admin" in caller.scopes

permitted if operator

permitted if count(operation.scopes) == 0

permitted if {
	some scope in operation.scopes
	scope in caller.scopes
}

# --- what the configuration says about its tenant ----------------------------------------------------------------------

rules := installation.tenants[caller.tenant]

# Rules of their own: "not" before an expression on an undefined value is undefined, which would deny nothing.
has_model if input.model in rules.models

has_region if installation.regions[input.model] in rules.regions

within_hours if {
	[hour, minute, _] := time.clock([input.time, rules.time_zone])
	now := (hour * 60) + minute
	some span in rules.hours
	time.weekday([input.time, rules.time_zone]) in span.days
	now >= span.from
	now < span.until
}

# --- denials, in the format of the API that was called ------------------------------------------------------------------

denied(rule) := {
	"allowed": false,
	"rule": rule,
	"status": errors[rule].status,
	"body": body(errors[rule], message(rule)),
}

message(rule) := own_denials[0] if rule == "own_rule"

else := sprintf("%s This path needs one of: %s.", [errors[rule].message, concat(", ", sort(operation.scopes))]) if {
	rule == "missing_scope"
}

else := errors[rule].message

body(error, text) := {
	"type": "error",
	"error": {"type": error.anthropic, "message": text},
	"request_id": object.get(input, "request_id", ""),
} if {
	anthropic
} else := {"error": {"message": text, "type": error.openai, "param": null, "code": error.code}}

anthropic if input.anthropic

anthropic if array.slice(input.path, 0, 2) == ["v1", "messages"]

refused := {"status": 403, "openai": "permission_error", "anthropic": "permission_error"}

errors := {
	"unknown_url": {
		"status": 404,
		"code": "unknown_url",
		"openai": "invalid_request_error",
		"anthropic": "not_found_error",
		"message": "No service has this operation. GET / lists the documents of the API.",
	},
	"invalid_api_key": {
		"status": 401,
		"code": "invalid_api_key",
		"openai": "authentication_error",
		"anthropic": "authentication_error",
		"message": "The API key is missing or unknown.",
	},
	"missing_scope": object.union(refused, {
		"code": "missing_scope",
		"message": "The API key lacks the scope.",
	}),
	"outside_hours": object.union(refused, {
		"code": "outside_hours",
		"message": "The tenant may not use the platform at this time.",
	}),
	"model_not_allowed": object.union(refused, {
		"code": "model_not_allowed",
		"message": "The tenant may not use this model, or the request does not name a model in its first 8 KiB.",
	}),
	"region_not_allowed": object.union(refused, {
		"code": "region_not_allowed",
		"message": "The model runs in a region where the tenant's data may not be processed.",
	}),
	"own_rule": object.union(refused, {"code": "denied_by_rule"}),
}
