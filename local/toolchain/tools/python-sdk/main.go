// Command python-sdk writes the Python SDK of a Pulumi package. Standard input is a GeneratePackageRequest of Pulumi's
// language protocol, standard output the GeneratePackageResponse, both in protobuf's binary form. The language host of
// the local environment, which is in Python, calls it, since Pulumi's generator is a Go library.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/pulumi/pulumi/pkg/v3/codegen/python"
	"github.com/pulumi/pulumi/pkg/v3/codegen/schema"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/protobuf/proto"
)

// generator is the name in the head of each generated file.
const generator = "pulumi-language-python"

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	data, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	request := &pulumirpc.GeneratePackageRequest{}
	if err := proto.Unmarshal(data, request); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	response, err := generate(request)
	if err != nil {
		return err
	}
	if data, err = proto.Marshal(response); err != nil {
		return err
	}
	_, err = out.Write(data)
	return err
}

// generate writes the SDK to the request's folder. Mistakes in the schema are diagnostics, not an error.
func generate(request *pulumirpc.GeneratePackageRequest) (*pulumirpc.GeneratePackageResponse, error) {
	loader, err := schema.NewLoaderClient(request.LoaderTarget)
	if err != nil {
		return nil, err
	}
	defer loader.Close()
	var spec schema.PackageSpec
	if err := json.Unmarshal([]byte(request.Schema), &spec); err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	options := schema.ValidationOptions{AllowDanglingReferences: true}
	pkg, diagnostics, err := schema.BindSpec(spec, loader, options)
	if err != nil {
		return nil, err
	}
	response := &pulumirpc.GeneratePackageResponse{Diagnostics: plugin.HclDiagnosticsToRPCDiagnostics(diagnostics)}
	if diagnostics.HasErrors() {
		return response, nil
	}
	files, err := python.GeneratePackage(generator, pkg, request.ExtraFiles, loader)
	if err != nil {
		return nil, err
	}
	for name, content := range files {
		path := filepath.Join(request.Directory, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return nil, err
		}
	}
	return response, nil
}
