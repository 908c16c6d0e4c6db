package wasm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/gophersnake/gophersnake/runner/internal/engine"
	"github.com/gophersnake/gophersnake/runner/internal/jsonvalue"
)

// The exports of a module.
const (
	exportStart      = "_start"
	exportInitialize = "_initialize"
	exportMemory     = "memory"
	exportAlloc      = "gophersnake_alloc"
	exportCall       = "gophersnake_call"
	exportFree       = "gophersnake_free"
)

// The limits of a module for which its Config has none.
const (
	DefaultMemory = 256 << 20
	DefaultResult = 256 << 20
)

// Config describes a module and how it is run.
type Config struct {
	Path   string // of the file
	JSON   bool   // inputs and results are JSON instead of msgpack
	Memory int64  // most bytes of memory of one instance; 0 means DefaultMemory
	Result int64  // most bytes of a result; 0 means DefaultResult
	// Min and Max are the number of instances that are kept when they are idle, and of those
	// that run at a time. Commands are not kept. Max is at least 1.
	Min, Max int
	// IdleTimeout is how long an instance beyond Min is kept; 0 means that it stays.
	IdleTimeout time.Duration
	// Queue limits the number of calls that wait for an instance, and QueueWait how long each
	// of them waits; 0 means no limit.
	Queue     int
	QueueWait time.Duration
	CacheDir  string       // of compiled code; empty for none
	Logger    hclog.Logger // gets the output of the module; nil for none
}

// Module runs the calls of a node that is a WebAssembly module. Create it with [New], start
// it once, and close it. All methods are safe for concurrent use.
type Module struct {
	config Config
	name   string // of the file, for errors

	// Set by Start.
	cache     wazero.CompilationCache
	runtime   wazero.Runtime
	compiled  wazero.CompiledModule
	isCommand bool

	line *engine.Line // each call that runs has a place

	mu     sync.Mutex // guards what follows
	active map[*instance]struct{}
	idle   []*instance // the one that was used last is at the end
	timer  *time.Timer // for the next idle instance; nil if there is none to drop
	closed bool
}

// New returns a module that is not started.
func New(config Config) *Module {
	if config.Memory == 0 {
		config.Memory = DefaultMemory
	}
	if config.Result == 0 {
		config.Result = DefaultResult
	}
	if config.Logger == nil {
		config.Logger = hclog.NewNullLogger()
	}
	config.Max = max(config.Max, config.Min, 1)
	return &Module{
		config: config, name: filepath.Base(config.Path),
		line: engine.NewLine(engine.LineConfig{
			Places: config.Max, Queue: config.Queue, Wait: config.QueueWait, Place: "an instance",
		}),
		active: map[*instance]struct{}{},
	}
}

// Start compiles the module and checks its imports and exports. Of a module with functions
// it makes the first instance, so that a start function that fails, or does not end before
// ctx does, is noticed. The compilation of a large module takes seconds, unless the cache
// folder has its code.
//
// The error is an *[engine.Error]. Its cause is an [*InvalidError], a [*StartError], or that
// of the file. After an error, the module can be started again.
func (m *Module) Start(ctx context.Context) error {
	return m.engineError(m.start(ctx))
}

func (m *Module) start(ctx context.Context) error {
	module, err := readModule(m.config.Path)
	if err != nil {
		return err
	}
	if err := m.compileCached(ctx, module); err != nil {
		m.release()
		if ctx.Err() != nil {
			return &StartError{&InterruptedError{Cause: context.Cause(ctx), End: ctx.Err()}}
		}
		return err
	}
	if m.isCommand {
		return nil
	}
	for range max(m.config.Min, 1) {
		if err := m.startInstance(ctx); err != nil {
			m.dropIdle(0)
			m.release()
			return err
		}
	}
	return nil
}

// compileCached compiles the module, or takes its code from the cache. If that fails, what
// the cache has may be damaged, or its disk full, so it compiles once more without it.
func (m *Module) compileCached(ctx context.Context, module []byte) error {
	config := wazero.NewRuntimeConfig()
	if m.cache = openCache(m.config); m.cache != nil {
		err := m.compile(ctx, module, config.WithCompilationCache(m.cache))
		if err == nil || ctx.Err() != nil {
			return err
		}
		m.config.Logger.Debug("the cache of compiled WebAssembly code is not used", "dir", m.config.CacheDir, "error", err)
		m.release()
	}
	return m.compile(ctx, module, config)
}

// Check returns an error, as Start does, if the module cannot be used. It runs nothing, and
// is faster than Start. It must not be called once Start was.
func (m *Module) Check(ctx context.Context) error {
	module, err := readModule(m.config.Path)
	if err != nil {
		return m.engineError(err)
	}
	err = m.compile(ctx, module, wazero.NewRuntimeConfigInterpreter())
	m.release()
	return m.engineError(err)
}

// readModule reads the file of a module.
func readModule(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxModule {
		return nil, &InvalidError{Path: path, Cause: fmt.Errorf("it has %d bytes, and at most %d are allowed", info.Size(), maxModule)}
	}
	return os.ReadFile(path)
}

// compile compiles the module and checks its imports and exports.
func (m *Module) compile(ctx context.Context, module []byte, config wazero.RuntimeConfig) error {
	invalid := func(err error) error { return &InvalidError{Path: m.config.Path, Cause: err} }
	module, err := prepare(module, m.config.Memory)
	if err != nil {
		return invalid(err)
	}
	m.runtime = wazero.NewRuntimeWithConfig(ctx, config.WithCloseOnContextDone(true))
	host, err := wasi(m.runtime).Compile(ctx)
	if err != nil {
		return fmt.Errorf("compile the functions of WASI: %w", err)
	}
	provided := host.ExportedFunctions()
	if _, err := m.runtime.InstantiateModule(ctx, host, wazero.NewModuleConfig()); err != nil {
		return fmt.Errorf("make the functions of WASI: %w", err)
	}
	m.compiled, err = m.runtime.CompileModule(experimental.WithCompilationWorkers(ctx, runtime.GOMAXPROCS(0)), module)
	if err != nil {
		return invalid(err)
	}
	if missing := missingImports(m.compiled, provided); len(missing) > 0 {
		return invalid(&ImportError{Missing: missing})
	}
	if m.isCommand, err = checkExports(m.compiled); err != nil {
		return invalid(err)
	}
	return nil
}

// openCache returns a cache of compiled code. It returns nil without one: the module is then
// compiled each time it is started.
func openCache(config Config) wazero.CompilationCache {
	if config.CacheDir == "" {
		return nil
	}
	cache, err := wazero.NewCompilationCacheWithDir(config.CacheDir)
	if err != nil {
		config.Logger.Debug("compiled WebAssembly code is not kept", "dir", config.CacheDir, "error", err)
		return nil
	}
	return cache
}

// missingImports returns the imports that are not provided.
func missingImports(module wazero.CompiledModule, provided map[string]api.FunctionDefinition) []string {
	var missing []string
	for _, f := range module.ImportedFunctions() {
		from, name, _ := f.Import()
		if _, ok := provided[name]; from != wasiModule || !ok {
			missing = append(missing, from+"."+name)
		}
	}
	for _, memory := range module.ImportedMemories() {
		from, name, _ := memory.Import()
		missing = append(missing, "the memory "+from+"."+name)
	}
	return missing
}

// checkExports reports whether a module is a command. It returns an *[ExportError] if it is
// neither that nor a module with functions.
func checkExports(module wazero.CompiledModule) (isCommand bool, err error) {
	functions := module.ExportedFunctions()
	if _, isCommand = functions[exportStart]; isCommand {
		if _, both := functions[exportCall]; both {
			return false, fmt.Errorf("the module exports %s and %s; a command has no functions that are called, and a module with functions is built as a reactor", exportStart, exportCall)
		}
		return true, nil
	}
	i32, i64 := api.ValueTypeI32, api.ValueTypeI64
	var missing []string
	check := func(name string, optional bool, params, results []api.ValueType) {
		f, ok := functions[name]
		if !ok && optional || ok && slices.Equal(f.ParamTypes(), params) && slices.Equal(f.ResultTypes(), results) {
			return
		}
		missing = append(missing, signature(name, params, results))
	}
	check(exportCall, false, []api.ValueType{i32, i32}, []api.ValueType{i64})
	check(exportAlloc, false, []api.ValueType{i32}, []api.ValueType{i32})
	check(exportFree, true, []api.ValueType{i32, i32}, nil)
	check(exportInitialize, true, nil, nil)
	if _, ok := module.ExportedMemories()[exportMemory]; !ok {
		missing = append(missing, "the memory "+exportMemory)
	}
	if len(missing) == 0 {
		return false, nil
	}
	has := make([]string, 0, len(functions))
	for name, f := range functions {
		has = append(has, signature(name[:min(len(name), maxName)], f.ParamTypes(), f.ResultTypes()))
	}
	slices.Sort(has)
	return false, &ExportError{Missing: missing, Has: has}
}

// signature formats the type of a function.
func signature(name string, params, results []api.ValueType) string {
	types := func(list []api.ValueType) (text string) {
		for i, t := range list {
			if i > 0 {
				text += ", "
			}
			text += api.ValueTypeName(t)
		}
		return text
	}
	text := name + "(" + types(params) + ")"
	if len(results) > 0 {
		text += " → " + types(results)
	}
	return text
}

// Call runs the node once. in and the result are one value in msgpack, with buffers inside.
// What the result holds was not checked. If Max calls are in progress, Call waits until one
// of them ends. When ctx ends, the module is interrupted.
//
// The error is an *[engine.Error] whose cause is one of the types of this package, an
// [*ipc.ValueError] for a value that JSON does not carry or a result that is missing, or
// ErrClosed.
func (m *Module) Call(ctx context.Context, in []byte) ([]byte, error) {
	return m.CallWithin(ctx, engine.Within{}, in)
}

// CallWithin is [Module.Call] with bounds. The limit is that of the time that the call has once it
// has an instance.
func (m *Module) CallWithin(ctx context.Context, within engine.Within, in []byte) ([]byte, error) {
	if m.config.JSON {
		text, err := jsonvalue.FromMsgpack("input", in)
		if err != nil {
			return nil, err
		}
		in = text
	}
	i, err := m.take(ctx, within.Turn)
	if err != nil {
		return nil, m.engineError(err)
	}
	i.overdue = nil
	if within.Limit > 0 {
		i.overdue = within.Cause
		timer := time.AfterFunc(within.Limit, func() { i.cancel(within.Cause) })
		defer timer.Stop()
	}
	out, err := i.serve(in)
	m.give(i, err)
	switch {
	case err != nil:
		return nil, m.engineError(err)
	case m.config.JSON:
		return jsonvalue.ToMsgpack("result", out)
	}
	return out, nil
}

// Close ends all calls once ctx ends, waits for them, and frees the module. Calls that begin
// afterwards return ErrClosed.
func (m *Module) Close(ctx context.Context) {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	stop := context.AfterFunc(ctx, m.cancelAll)
	<-m.line.Close()
	stop()
	m.dropIdle(0)
	m.release()
}

// cancelAll ends the calls that run.
func (m *Module) cancelAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.active {
		i.cancel(ErrClosed)
	}
}

// release frees what Start made.
func (m *Module) release() {
	ctx := context.Background()
	if m.runtime != nil {
		_ = m.runtime.Close(ctx)
	}
	if m.cache != nil {
		_ = m.cache.Close(ctx)
	}
	m.runtime, m.cache = nil, nil
}
