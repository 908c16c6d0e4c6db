package worker

import (
	"encoding/binary"
	"io"
	"os"
)

// The autopsy file begins with a count, in 8 bytes, of the calls that the worker
// has begun, plus one so that 0 says that it does not count, and with the inode of
// its pulse, in 8 bytes, 0 for none. What the interpreter writes as it dies comes
// behind them.
const (
	countSize = 8
	pulseSize = 8
	wordsAt   = countSize + pulseSize
)

const maxDump = 256 << 10

// newAutopsyFile makes the file, to be written where the last words belong.
func newAutopsyFile() (*os.File, error) {
	f, err := anonymousFile("gophersnake-autopsy")
	if err != nil {
		return nil, err
	}
	if err = f.Truncate(wordsAt); err == nil {
		_, err = f.Seek(wordsAt, io.SeekStart)
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
	begun, counted = readBegun(f)
	text, _ := io.ReadAll(io.NewSectionReader(f, wordsAt, maxDump))
	return begun, counted, string(text)
}

// readBegun returns how many calls the process has begun, if it counts them.
func readBegun(f *os.File) (begun uint64, counted bool) {
	var count [countSize]byte
	if _, err := f.ReadAt(count[:], 0); err != nil {
		return 0, false
	}
	n := binary.LittleEndian.Uint64(count[:])
	return max(n, 1) - 1, n > 0
}

// readPulse returns the inode of the pipe by which a living process shows that it
// can run Python code, 0 for none.
func readPulse(f *os.File) uint64 {
	var inode [pulseSize]byte
	if _, err := f.ReadAt(inode[:], countSize); err != nil {
		return 0
	}
	return binary.LittleEndian.Uint64(inode[:])
}
