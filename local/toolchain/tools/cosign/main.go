// Command cosign is sigstore's cosign, signing with key files only: leaving
// out the four cloud KMS clients that upstream's main registers halves the
// build.
package main

import (
	"fmt"
	"os"

	"github.com/sigstore/cosign/v3/cmd/cosign/cli"
)

func main() {
	if err := cli.New().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "cosign:", err)
		os.Exit(1)
	}
}
