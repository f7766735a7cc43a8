package main

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Values of a JSON Schema: the smallest sensible one, made of the numbers and words of the question where they fit.

const (
	deep     = 4  // from here on only what is required
	deepest  = 24 // a schema that requires itself has no value
	mostSize = 1024
)

var errNoValue = errors.New("no value fits the schema")

type object = map[string]any

type maker struct {
	root    object
	numbers []float64
	variant int
}

var numberPattern = regexp.MustCompile(`-?\d+(?:\.\d+)?`)

func newMaker(root object, question string) *maker {
	m := &maker{root: root}
	for _, found := range numberPattern.FindAllString(question, 32) {
		if n, err := strconv.ParseFloat(found, 64); err == nil {
			m.numbers = append(m.numbers, n)
		}
	}
	return m
}

func (m *maker) value(schema any, depth int) (any, error) {
	if depth > deepest {
		return nil, errNoValue
	}
	s, ok := schema.(object)
	if !ok {
		if allowed, isBool := schema.(bool); isBool && !allowed {
			return nil, errNoValue
		}
		return "example", nil
	}
	s, err := m.plain(s, 0)
	if err != nil {
		return nil, err
	}
	if value, ok := s["const"]; ok {
		return value, nil
	}
	if values, ok := s["enum"].([]any); ok && len(values) > 0 {
		return values[m.variant%len(values)], nil
	}
	for _, name := range []string{"anyOf", "oneOf"} {
		if arms, ok := s[name].([]any); ok && len(arms) > 0 {
			return m.oneOf(s, name, arms, depth)
		}
	}
	return m.ofType(s, typeOf(s, depth > deep), depth)
}

// plain resolves references and merges all parts of a schema into one.
func (m *maker) plain(s object, steps int) (object, error) {
	if steps > deepest {
		return nil, errNoValue
	}
	made := object{}
	for name, value := range s {
		if name != "$ref" && name != "allOf" {
			made[name] = value
		}
	}
	parts, _ := s["allOf"].([]any)
	if reference, ok := s["$ref"].(string); ok {
		found, err := m.find(reference)
		if err != nil {
			return nil, err
		}
		parts = append(parts, found)
	}
	for _, part := range parts {
		inner, ok := part.(object)
		if !ok {
			continue
		}
		inner, err := m.plain(inner, steps+1)
		if err != nil {
			return nil, err
		}
		merge(made, inner)
	}
	return made, nil
}

func merge(into, from object) {
	for name, value := range from {
		switch present := into[name].(type) {
		case nil:
			into[name] = value
		case []any:
			if more, ok := value.([]any); ok && name == "required" {
				into[name] = append(append([]any{}, present...), more...)
			}
		case object:
			if more, ok := value.(object); ok && name == "properties" {
				joined := object{}
				merge(joined, present)
				merge(joined, more)
				into[name] = joined
			}
		}
	}
}

func (m *maker) find(reference string) (any, error) {
	if !strings.HasPrefix(reference, "#") {
		return nil, fmt.Errorf("$ref %q leads out of the schema", reference)
	}
	var at any = m.root
	for _, step := range strings.Split(strings.TrimPrefix(reference[1:], "/"), "/") {
		if step == "" {
			continue
		}
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		switch inner := at.(type) {
		case object:
			at = inner[step]
		case []any:
			n, err := strconv.Atoi(step)
			if err != nil || n < 0 || n >= len(inner) {
				return nil, fmt.Errorf("$ref %q leads nowhere", reference)
			}
			at = inner[n]
		default:
			at = nil
		}
	}
	if at == nil {
		return nil, fmt.Errorf("$ref %q leads nowhere", reference)
	}
	return at, nil
}

// oneOf takes the first arm that has a value; far down, one that ends here.
func (m *maker) oneOf(s object, name string, arms []any, depth int) (any, error) {
	base := object{}
	for key, value := range s {
		if key != name {
			base[key] = value
		}
	}
	var last error = errNoValue
	for _, wanted := range []bool{depth > deep, depth <= deep} {
		for _, arm := range arms {
			inner, ok := arm.(object)
			if !ok {
				continue
			}
			if isNull := inner["type"] == "null"; isNull != wanted {
				continue
			}
			joined := object{"allOf": []any{inner}}
			for key, value := range base {
				joined[key] = value
			}
			value, err := m.value(joined, depth+1)
			if err == nil {
				return value, nil
			}
			last = err
		}
	}
	return nil, last
}

func typeOf(s object, preferNull bool) string {
	switch kind := s["type"].(type) {
	case string:
		return kind
	case []any:
		first := ""
		for _, one := range kind {
			name, _ := one.(string)
			if name == "null" && preferNull {
				return name
			}
			if first == "" && name != "null" {
				first = name
			}
		}
		if first == "" {
			return "null"
		}
		return first
	}
	for name, kind := range map[string]string{
		"properties": "object", "additionalProperties": "object", "required": "object", "items": "array",
		"prefixItems": "array", "minItems": "array", "minimum": "number", "maximum": "number", "pattern": "string",
	} {
		if _, ok := s[name]; ok {
			return kind
		}
	}
	return "string"
}

func (m *maker) ofType(s object, kind string, depth int) (any, error) {
	switch kind {
	case "object":
		return m.object(s, depth)
	case "array":
		return m.array(s, depth)
	case "integer", "number":
		return m.number(s, kind == "integer")
	case "boolean":
		return m.variant%2 == 0, nil
	case "null":
		return nil, nil
	default:
		return m.text(s)
	}
}

func (m *maker) object(s object, depth int) (any, error) {
	made := object{}
	properties, _ := s["properties"].(object)
	required := map[string]bool{}
	listed, _ := s["required"].([]any)
	for _, name := range listed {
		if text, ok := name.(string); ok {
			required[text] = true
		}
	}
	for name, property := range properties {
		if !required[name] && depth > deep {
			continue
		}
		value, err := m.value(property, depth+1)
		if err != nil && required[name] {
			return nil, err
		}
		if err == nil {
			made[name] = value
		}
	}
	var more any = true
	if given, ok := s["additionalProperties"]; ok {
		more = given
	}
	for name := range required {
		if _, ok := made[name]; !ok {
			value, err := m.value(more, depth+1)
			if err != nil {
				return nil, err
			}
			made[name] = value
		}
	}
	for n := 1; float64(len(made)) < number(s, "minProperties", 0) && n < mostSize; n++ {
		value, err := m.value(more, depth+1)
		if err != nil {
			return nil, err
		}
		made[fmt.Sprintf("key%d", n)] = value
	}
	return made, nil
}

func (m *maker) array(s object, depth int) (any, error) {
	first, _ := s["prefixItems"].([]any)
	count := int(math.Max(number(s, "minItems", 0), float64(len(first))))
	if count == 0 && depth <= deep && number(s, "maxItems", 1) >= 1 {
		count = 1
	}
	if count > mostSize {
		return nil, errNoValue
	}
	made := []any{}
	before := m.variant
	defer func() { m.variant = before }()
	for n := range count {
		var item any = true
		if given, ok := s["items"]; ok {
			item = given
		}
		if n < len(first) {
			item = first[n]
		}
		m.variant = before + n
		value, err := m.value(item, depth+1)
		if err != nil {
			if float64(n) >= number(s, "minItems", 0) {
				break
			}
			return nil, err
		}
		made = append(made, value)
	}
	return made, nil
}

func number(s object, name string, otherwise float64) float64 {
	if value, ok := s[name].(float64); ok {
		return value
	}
	return otherwise
}

func (m *maker) number(s object, whole bool) (any, error) {
	step := number(s, "multipleOf", 0)
	least, most := number(s, "minimum", math.Inf(-1)), number(s, "maximum", math.Inf(1))
	small := 1e-6
	if whole {
		small = 1
	}
	least = math.Max(least, number(s, "exclusiveMinimum", math.Inf(-1))+small)
	most = math.Min(most, number(s, "exclusiveMaximum", math.Inf(1))-small)
	if whole {
		least, most = math.Ceil(least), math.Floor(most)
		step = math.Max(step, 1)
	}
	fits := func(n float64) bool {
		return n >= least && n <= most && (step == 0 || math.Abs(math.Remainder(n, step)) < 1e-9)
	}
	for n, found := range m.numbers {
		if fits(found) {
			m.numbers = append(append([]float64{}, m.numbers[:n]...), m.numbers[n+1:]...)
			return found, nil
		}
	}
	start := 1.0
	switch {
	case !math.IsInf(least, 0):
		start = least
	case !math.IsInf(most, 0):
		start = most
	}
	if start < least || start > most {
		start = math.Min(math.Max(start, least), most)
	}
	if step > 0 {
		start = math.Ceil(start/step) * step
		if start > most {
			start -= step
		}
	}
	shifted := start + float64(m.variant)*math.Max(step, small)
	for _, n := range []float64{shifted, start - float64(m.variant)*math.Max(step, small), start} {
		if fits(n) {
			return n, nil
		}
	}
	return nil, errNoValue
}

var formats = map[string]string{
	"date": "2026-01-31", "date-time": "2026-01-31T12:00:00Z", "time": "12:00:00Z", "duration": "P1D",
	"email": "ann@example.com", "uuid": "00000000-0000-4000-8000-000000000000", "uri": "https://example.com/",
	"hostname": "example.com", "ipv4": "192.0.2.1", "ipv6": "2001:db8::1",
}

func (m *maker) text(s object) (any, error) {
	least, most := int(number(s, "minLength", 0)), int(number(s, "maxLength", math.MaxInt32))
	if least > mostSize*1024 || least > most {
		return nil, errNoValue
	}
	if format, ok := formats[fmt.Sprint(s["format"])]; ok {
		return format, nil
	}
	if pattern, ok := s["pattern"].(string); ok {
		return fromPattern(pattern, least)
	}
	made := "example"
	if m.variant > 0 {
		made += strconv.Itoa(m.variant)
	}
	for utf8.RuneCountInString(made) < least {
		made += made
	}
	if limit := max(least, min(most, len(made))); len(made) > limit {
		made = made[:limit]
	}
	if len(made) > 64 && least < 64 {
		made = made[:max(least, 64)]
	}
	return made, nil
}

// fromPattern is a text that a regular expression matches.
func fromPattern(pattern string, least int) (string, error) {
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return "", fmt.Errorf("pattern %q: %w", pattern, err)
	}
	for repeats := 1; repeats <= mostSize; repeats *= 2 {
		var made strings.Builder
		write(&made, tree.Simplify(), repeats)
		if utf8.RuneCountInString(made.String()) >= least {
			return made.String(), nil
		}
	}
	return "", errNoValue
}

func write(into *strings.Builder, tree *syntax.Regexp, repeats int) {
	switch tree.Op {
	case syntax.OpLiteral:
		into.WriteString(string(tree.Rune))
	case syntax.OpCharClass:
		into.WriteRune(pick(tree.Rune))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		into.WriteRune('a')
	case syntax.OpStar, syntax.OpPlus:
		for range repeats {
			write(into, tree.Sub[0], repeats)
		}
	case syntax.OpCapture, syntax.OpAlternate:
		write(into, tree.Sub[0], repeats)
	case syntax.OpConcat:
		for _, part := range tree.Sub {
			write(into, part, repeats)
		}
	case syntax.OpRepeat:
		for range max(tree.Min, min(repeats, max(tree.Max, tree.Min))) {
			write(into, tree.Sub[0], repeats)
		}
	case syntax.OpQuest:
		if repeats > 1 {
			write(into, tree.Sub[0], repeats)
		}
	default: // anchors and the empty match write nothing
	}
}

// pick prefers what people can read.
func pick(ranges []rune) rune {
	for _, wanted := range "aA01bB2" {
		for n := 0; n+1 < len(ranges); n += 2 {
			if wanted >= ranges[n] && wanted <= ranges[n+1] {
				return wanted
			}
		}
	}
	for n := 0; n+1 < len(ranges); n += 2 {
		if low := max(ranges[n], 0x20); low <= ranges[n+1] {
			return low
		}
	}
	return 'a'
}
