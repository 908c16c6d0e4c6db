package inference

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

var update = flag.Bool("update", false, "generate the code again")

// file is the path of the interface in the module, by which it is known in a program.
const file = "runner/serve/oip/internal/inference/inference.proto"

// root is the folder of the module.
const root = "../../../../.."

// compile returns the description of the interface.
func compile(t *testing.T) protoreflect.FileDescriptor {
	t.Helper()
	compiler := protocompile.Compiler{
		Resolver:       &protocompile.SourceResolver{ImportPaths: []string{root}},
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(t.Context(), file)
	require.NoError(t, err)
	return files[0]
}

func TestTheGeneratedCodeIsCurrent(t *testing.T) {
	t.Parallel()
	compiled := compile(t)
	if *update {
		generate(t, protoutil.ProtoFromFileDescriptor(compiled), "google.golang.org/protobuf/cmd/protoc-gen-go", "paths=source_relative")
		generate(t, protoutil.ProtoFromFileDescriptor(compiled), "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2", "paths=source_relative,require_unimplemented_servers=true")
		return
	}
	want := protoutil.ProtoFromFileDescriptor(compiled)
	want.SourceCodeInfo = nil
	generated, err := protoregistry.GlobalFiles.FindFileByPath(file)
	require.NoError(t, err)
	got := protoutil.ProtoFromFileDescriptor(generated)
	assert.True(t, proto.Equal(want, got), "run go test ./runner/serve/oip/internal/inference -run %s -update", t.Name())
}

// generate writes what a plugin of protoc generates.
func generate(t *testing.T, d *descriptorpb.FileDescriptorProto, plugin, parameter string) {
	t.Helper()
	request, err := proto.Marshal(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{file}, Parameter: proto.String(parameter), ProtoFile: []*descriptorpb.FileDescriptorProto{d},
	})
	require.NoError(t, err)
	cmd := exec.Command("go", "run", plugin)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(request), os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	var response pluginpb.CodeGeneratorResponse
	require.NoError(t, proto.Unmarshal(out, &response))
	require.Empty(t, response.GetError())
	for _, f := range response.GetFile() {
		require.NoError(t, os.WriteFile(filepath.Join(root, f.GetName()), []byte(f.GetContent()), 0o644))
	}
}
