package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/keys"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/tester"
)

const mostLine = 1 << 20

var errTests = errors.New("the policies' tests failed")

// test runs the tests of the policies in folders, and measures which lines of the policies they run.
func test(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("test", flag.ContinueOnError)
	threshold := flags.Float64("threshold", 0, "least share of covered lines of the policies, in percent")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	modules, store, err := tester.Load(flags.Args(), nil)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	tracer := cover.New()
	var results chan *tester.Result
	failed, passed := 0, 0
	err = storage.Txn(ctx, store, storage.TransactionParams{}, func(txn storage.Transaction) error {
		runner := tester.NewRunner().SetStore(store).SetModules(modules).CapturePrintOutput(true).
			SetCoverageQueryTracer(tracer).RaiseBuiltinErrors(true)
		if results, err = runner.RunTests(ctx, txn); err != nil {
			return err
		}
		for result := range results {
			if result.Pass() {
				passed++
				continue
			}
			failed++
			fmt.Printf("%s %s\n%s", result.Location, result, result.Output)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("run: %w", err)
	}
	covered, missed := coverage(tracer.Report(modules))
	fmt.Printf("%d tests passed, %d failed; %.1f %% of the policies' lines are covered.\n", passed, failed, covered)
	switch {
	case failed > 0:
		return errTests
	case passed == 0:
		return errors.New("there are no tests")
	case covered < *threshold:
		return fmt.Errorf("%.1f %% of the lines are covered, %.1f %% are needed; not covered: %s",
			covered, *threshold, strings.Join(missed, ", "))
	}
	return nil
}

// coverage is the share of covered lines in percent, and the ranges that are not covered. Tests themselves do not count.
func coverage(report cover.Report) (float64, []string) {
	covered, all := 0, 0
	var missed []string
	for name, file := range report.Files {
		if strings.HasSuffix(name, "_test.rego") {
			continue
		}
		covered += file.CoveredLines
		all += file.CoveredLines + file.NotCoveredLines
		for _, part := range file.NotCovered {
			missed = append(missed, fmt.Sprintf("%s:%d-%d", name, part.Start.Row, part.End.Row))
		}
	}
	sort.Strings(missed)
	if all == 0 {
		return 0, missed
	}
	return 100 * float64(covered) / float64(all), missed
}

// decide prints the decision for each input, both as JSON lines. With a key, the bundle's signature is checked.
func decide(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("decide", flag.ContinueOnError)
	file := flags.String("bundle", "", "the bundle")
	key := flags.String("key", "", "PEM file with the public key of its signature; empty: it is not checked")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	found, err := readBundle(*file, *key)
	if err != nil {
		return err
	}
	query, err := rego.New(
		rego.Query("data."+strings.ReplaceAll(decisionPath, "/", ".")), rego.ParsedBundle("policy", found),
	).PrepareForEval(ctx)
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, mostLine)
	output := bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(output)
	encoder.SetEscapeHTML(false)
	for lines.Scan() {
		var input any
		decoder := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		decoder.UseNumber()
		if err := decoder.Decode(&input); err != nil {
			return fmt.Errorf("input: %w", err)
		}
		results, err := query.Eval(ctx, rego.EvalInput(input))
		if err != nil {
			return fmt.Errorf("evaluate: %w", err)
		}
		var decision any
		if len(results) == 1 {
			decision = results[0].Expressions[0].Value
		}
		if err := encoder.Encode(decision); err != nil {
			return err
		}
	}
	return errors.Join(lines.Err(), output.Flush())
}

func readBundle(file, key string) (*bundle.Bundle, error) {
	content, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("-bundle: %w", err)
	}
	defer func() { _ = content.Close() }()
	reader := bundle.NewReader(io.LimitReader(content, bundleBytes)).WithSkipBundleVerification(key == "")
	if key != "" {
		public, err := os.ReadFile(key)
		if err != nil {
			return nil, fmt.Errorf("-key: %w", err)
		}
		known := map[string]*keys.Config{"platform": {Key: string(public), Algorithm: "RS256"}}
		reader = reader.WithBundleVerificationConfig(bundle.NewVerificationConfig(known, "platform", "", nil))
	}
	found, err := reader.Read()
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return &found, nil
}
