package runner

import (
	"context"

	"github.com/gophersnake/gophersnake/runner/internal/isolation"
	"github.com/gophersnake/gophersnake/runner/internal/pyenv"
)

// What the command line and the benchmarks need of the internal packages.
type (
	Environment          = pyenv.Environment
	EnvironmentSpec      = pyenv.Spec
	EnvironmentError     = pyenv.Error
	PruneOptions         = pyenv.PruneOptions
	Pruned               = pyenv.Pruned
	BuildProgress        = pyenv.Progress
	Interpreter          = pyenv.Interpreter
	InterpreterEquipment = pyenv.Equipment
	FindOptions          = pyenv.FindOptions
	IsolationMechanism   = isolation.Mechanism
)

func CacheDir(explicit string) (string, error) { return pyenv.CacheDir(explicit) }

func EnsureEnvironment(ctx context.Context, spec EnvironmentSpec) (Environment, error) {
	return pyenv.Ensure(ctx, spec)
}

func Environments(cache string) ([]Environment, error) { return pyenv.List(cache) }

func PruneEnvironments(ctx context.Context, cache string, o PruneOptions) (Pruned, error) {
	return pyenv.Prune(ctx, cache, o)
}

func FindInterpreter(ctx context.Context, o FindOptions) (Interpreter, error) {
	return pyenv.Find(ctx, o)
}

func Interpreters(ctx context.Context, cache string) ([]Interpreter, error) {
	return pyenv.Interpreters(ctx, cache)
}

func EquipmentOf(ctx context.Context, python Interpreter) (InterpreterEquipment, error) {
	return pyenv.EquipmentOf(ctx, python)
}

func IsolationMechanisms() []IsolationMechanism { return isolation.Probe() }
