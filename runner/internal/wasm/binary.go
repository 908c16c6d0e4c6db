package wasm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// The bounds of what a module may declare. wazero allocates its tables when it is
// instantiated and when they grow, in memory that its allocator does not control.
const (
	maxModule   = 256 << 20 // bytes of the file
	maxTables   = 64
	maxElements = 1 << 20 // of one table, 8 bytes each
	maxNamed    = 1 << 16 // bytes of the name of a function or of the module
	pageSize    = 64 << 10
)

var (
	moduleHeader    = []byte("\x00asm\x01\x00\x00\x00")
	componentHeader = []byte("\x00asm\x0d\x00\x01\x00")
)

// Sections of the binary format that are read here.
const (
	sectionCustom = 0
	sectionTable  = 4
	sectionMemory = 5
)

// prepare checks the limits that a module declares, and returns it with a bound for each
// table that has none or a larger one. memory is the limit of an instance in bytes.
func prepare(module []byte, memory int64) ([]byte, error) {
	switch {
	case bytes.HasPrefix(module, componentHeader):
		return nil, errors.New("it is a component of WASI 0.2; build it as a core module, for instance for wasm32-wasip1")
	case !bytes.HasPrefix(module, moduleHeader):
		return nil, errors.New("it is no WebAssembly module: it does not begin with \\0asm and version 1")
	}
	out := append(make([]byte, 0, len(module)+maxTables*binary.MaxVarintLen32), moduleHeader...)
	r := reader{module[len(moduleHeader):]}
	for len(r.rest) > 0 {
		id, content, err := r.section()
		if err != nil {
			return nil, err
		}
		switch id {
		case sectionCustom:
			if namesTooLong(content) {
				continue // the stacks of traps have numbers instead of names
			}
		case sectionTable:
			content, err = boundTables(content)
		case sectionMemory:
			err = checkMemories(content, memory)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, id)
		out = binary.AppendUvarint(out, uint64(len(content)))
		out = append(out, content...)
	}
	return out, nil
}

// boundTables returns a table section in which each table has a bound.
func boundTables(section []byte) ([]byte, error) {
	r := reader{section}
	count, err := r.number()
	if err != nil {
		return nil, err
	}
	if count > maxTables {
		return nil, fmt.Errorf("it has %d tables, more than the %d that are allowed", count, maxTables)
	}
	out := binary.AppendUvarint(nil, count)
	for range count {
		kind, err := r.byte()
		if err != nil {
			return nil, err
		}
		least, most, err := r.limits()
		if err != nil {
			return nil, err
		}
		if least > maxElements {
			return nil, fmt.Errorf("a table has %d elements, more than the %d that are allowed", least, maxElements)
		}
		out = append(out, kind, 1) // with a bound
		out = binary.AppendUvarint(out, least)
		out = binary.AppendUvarint(out, min(most, maxElements))
	}
	return append(out, r.rest...), nil
}

// checkMemories returns an error if a memory is larger at the start than an instance may be.
func checkMemories(section []byte, memory int64) error {
	r := reader{section}
	count, err := r.number()
	for ; err == nil && count > 0; count-- {
		var least uint64
		if least, _, err = r.limits(); err == nil && least > uint64(memory)/pageSize {
			return &MemoryError{Limit: memory, Asked: int64(least) * pageSize}
		}
	}
	return err
}

// namesTooLong reports whether a custom section has the names of functions, and one of them,
// or that of the module, is too long: the stack of a trap repeats them, up to 30 times.
func namesTooLong(section []byte) bool {
	r := reader{section}
	if kind, err := r.bytes(); err != nil || string(kind) != "name" {
		return false
	}
	const ofModule, ofFunctions = 0, 1
	for len(r.rest) > 0 {
		id, content, err := r.section()
		if err != nil {
			return true // it is broken, and of no use
		}
		names := reader{content}
		count := uint64(1)
		if id == ofFunctions {
			if count, err = names.number(); err != nil {
				return true
			}
		} else if id != ofModule {
			continue
		}
		for range count {
			if id == ofFunctions {
				_, err = names.number() // of the function
			}
			name, nameErr := names.bytes()
			if err != nil || nameErr != nil || len(name) > maxNamed {
				return true
			}
		}
	}
	return false
}

// reader reads the parts of a module. It copies nothing.
type reader struct{ rest []byte }

var errTruncated = errors.New("the module is truncated")

// section returns the next section.
func (r *reader) section() (id byte, content []byte, err error) {
	if id, err = r.byte(); err != nil {
		return 0, nil, err
	}
	content, err = r.bytes()
	return id, content, err
}

// bytes returns bytes whose number precedes them.
func (r *reader) bytes() ([]byte, error) {
	size, err := r.number()
	if err != nil {
		return nil, err
	}
	if size > uint64(len(r.rest)) {
		return nil, errTruncated
	}
	content := r.rest[:size]
	r.rest = r.rest[size:]
	return content, nil
}

func (r *reader) byte() (byte, error) {
	if len(r.rest) == 0 {
		return 0, errTruncated
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b, nil
}

// number reads an unsigned number of 32 bits.
func (r *reader) number() (uint64, error) {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > 1<<32-1 {
		return 0, errTruncated
	}
	r.rest = r.rest[n:]
	return v, nil
}

// limits reads the least and the greatest size of a table or a memory. Without a greatest
// size it returns that of 32 bits.
func (r *reader) limits() (least, most uint64, err error) {
	flags, err := r.byte()
	if err != nil {
		return 0, 0, err
	}
	if least, err = r.number(); err != nil {
		return 0, 0, err
	}
	const hasMost = 1
	if flags&hasMost == 0 {
		return least, 1<<32 - 1, nil
	}
	most, err = r.number()
	return least, most, err
}
