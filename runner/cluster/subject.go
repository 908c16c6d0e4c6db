package cluster

import (
	"fmt"
	"strings"
)

// The subjects, below one root so that permissions can name them:
//
//	gophersnake.hello                      a client asks all machines for their announcements
//	gophersnake.beat.PIPELINE              the announcements of a pipeline, by its machines
//	gophersnake.alive.MACHINE              answers pings
//	gophersnake.call.PIPELINE.MACHINE.…    a target: run, or node.ID
//
// Answers go to the inbox of the client, a subject of _INBOX.
const (
	subjectRoot  = "gophersnake"
	subjectHello = subjectRoot + ".hello"
)

func beatSubject(pipeline string) string { return subjectRoot + ".beat." + token(pipeline) }

func aliveSubject(machine string) string { return subjectRoot + ".alive." + machine }

// callGroup is the prefix of a machine's targets for a pipeline.
func callGroup(pipeline, machine string) string {
	return subjectRoot + ".call." + token(pipeline) + "." + machine
}

// targetName is the part of a target's subject behind the group: that of a run if node is
// empty.
func targetName(node string) string {
	if node == "" {
		return "run"
	}
	return "node." + token(node)
}

// token makes any name a token of a subject. Letters, digits, _ and - stay; each other byte
// becomes = and two hexadecimal digits, so that different names have different tokens.
func token(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		if isPlain(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "=%02x", c)
		}
	}
	if b.Len() == 0 {
		return "="
	}
	return b.String()
}

// serviceName makes any name the name of a NATS micro service, which may only have letters,
// digits, _ and -. Different names may become the same; metadata has the right one.
func serviceName(name string) string {
	b := []byte(name)
	for i, c := range b {
		if !isPlain(c) {
			b[i] = '-'
		}
	}
	if len(b) == 0 {
		return "-"
	}
	return string(b)
}

func isPlain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}
