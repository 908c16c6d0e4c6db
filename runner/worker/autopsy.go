package worker

import (
	"encoding/binary"
	"io"
	"os"
)

// The autopsy file begins with a count, in 8 bytes, of the calls that the worker
// has begun, plus one so that 0 says that it does not count. What the interpreter
// writes as it dies comes behind it.
const countSize = 8

const maxDump = 256 << 10

// newAutopsyFile makes the file, to be written from behind the count.
func newAutopsyFile() (*os.File, error) {
	f, err := anonymousFile("gophersnake-autopsy")
	if err != nil {
		return nil, err
	}
	if err = f.Truncate(countSize); err == nil {
		_, err = f.Seek(countSize, io.SeekStart)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// readAutopsy returns what the file of a process that is gone says. What can be
// read is what there is.
func readAutopsy(f *os.File) (begun uint64, counted bool, dump string) {
	var count [countSize]byte
	if _, err := f.ReadAt(count[:], 0); err == nil {
		if n := binary.LittleEndian.Uint64(count[:]); n > 0 {
			begun, counted = n-1, true
		}
	}
	text, _ := io.ReadAll(io.NewSectionReader(f, countSize, maxDump))
	return begun, counted, string(text)
}
