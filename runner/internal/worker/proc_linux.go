package worker

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// procStat is what /proc tells of a process, or of a thread.
type procStat struct {
	state    byte
	parent   int
	group    int
	cpu      time.Duration // its own
	waited   time.Duration // that of its children that are gone
	resident int64         // bytes
}

// clockTick is the unit of the times there; the kernel shows them so whatever it
// counts in.
const clockTick = 10 * time.Millisecond

var pageSize = int64(os.Getpagesize())

// readStat reads /proc/…/stat.
func readStat(folder string) (procStat, error) {
	text, err := os.ReadFile(folder + "/stat")
	if err != nil {
		return procStat{}, err
	}
	return parseStat(text)
}

// parseStat takes the line apart. The name in it, which the process chooses, may
// hold anything, brackets too.
func parseStat(text []byte) (procStat, error) {
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 22 {
		return procStat{}, errors.New("a stat file of few fields")
	}
	number := func(field int) int64 { // counted as proc(5) does
		n, _ := strconv.ParseInt(string(fields[field-3]), 10, 64) // the kernel writes numbers
		return n
	}
	return procStat{
		state:    fields[0][0],
		parent:   int(number(4)),
		group:    int(number(5)),
		cpu:      time.Duration(number(14)+number(15)) * clockTick,
		waited:   time.Duration(number(16)+number(17)) * clockTick,
		resident: number(24) * pageSize,
	}, nil
}

func procFolder(pid int) string { return fmt.Sprintf("/proc/%d", pid) }
