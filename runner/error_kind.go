package runner

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Kind says what sort of failure an [Error] is, which decides whether it is
// worth another attempt.
//
// A Kind is an error itself, so it serves as the target of [errors.Is], and any
// error can be given a kind by wrapping one:
//
//	if errors.Is(err, runner.KindPythonVM) { … }
//	return fmt.Errorf("fetch the model: %w", runner.KindIO)
type Kind uint8

// The kinds of failure. Those marked (retryable) are tried again under the
// node's policy.
const (
	// KindOther is the rest: the refusals of an open breaker and cancellation included.
	KindOther Kind = iota
	// KindManifest: the pipeline is wrong, for instance its schema, an unknown node,
	// a cycle, bad params.
	KindManifest
	// KindExecution: the node's code raised (retryable).
	KindExecution
	// KindPythonVM: the interpreter died, hung past its deadline, could not start,
	// or ran out of memory (retryable).
	KindPythonVM
	// KindWasm: a WASM node trapped (retryable). Nothing produces it until there is
	// a WASM node.
	KindWasm
	// KindTransport: the connection broke while the process lives, or the peer spoke
	// out of protocol (retryable).
	KindTransport
	// KindIO: files, sockets, environments; the operating system said no (retryable).
	KindIO
	// KindMarshaling: a value cannot be carried.
	KindMarshaling
	// KindSerialization: a document (a manifest, JSON input or output) cannot be
	// encoded or decoded.
	KindSerialization
)

var kindNames = [...]string{
	KindOther:         "other",
	KindManifest:      "manifest",
	KindExecution:     "execution",
	KindPythonVM:      "python_vm",
	KindWasm:          "wasm",
	KindTransport:     "transport",
	KindIO:            "io",
	KindMarshaling:    "marshaling",
	KindSerialization: "serialization",
}

// ParseKind returns the kind of the given name, which is as [Kind.String] writes it.
func ParseKind(name string) (Kind, error) {
	if i := slices.Index(kindNames[:], name); i >= 0 {
		return Kind(i), nil
	}
	return KindOther, fmt.Errorf("there is no error kind %q; the kinds are %s", name, strings.Join(kindNames[:], ", "))
}

// KindOf returns the kind of an error: that of the outermost [*Error] in its
// chain, or else the Kind that it wraps, or else [KindOther].
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	kind, _ := errors.AsType[Kind](err)
	return kind
}

// String returns the name that manifests and JSON use, for instance "python_vm".
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Error returns the same as String; it makes a Kind an error.
func (k Kind) Error() string { return k.String() }

// Retryable reports whether errors of this kind are worth another attempt.
func (k Kind) Retryable() bool {
	switch k {
	case KindExecution, KindPythonVM, KindWasm, KindTransport, KindIO:
		return true
	}
	return false
}

// MarshalText writes the kind's name.
func (k Kind) MarshalText() ([]byte, error) {
	if int(k) >= len(kindNames) {
		return nil, fmt.Errorf("%v is not an error kind", k)
	}
	return []byte(k.String()), nil
}

// UnmarshalText reads the kind's name.
func (k *Kind) UnmarshalText(text []byte) error {
	kind, err := ParseKind(string(text))
	if err == nil {
		*k = kind
	}
	return err
}

// kinds is a set of kinds.
type kinds uint16

func kindSet(list []Kind) kinds {
	var set kinds
	for _, k := range list {
		set |= 1 << k
	}
	return set
}

func (s kinds) has(k Kind) bool { return s&(1<<k) != 0 }
