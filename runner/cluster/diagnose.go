package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gophersnake/gophersnake/runner"
)

// The limits above which a finding is a warning.
const (
	slowRoundTrip  = 50 * time.Millisecond
	smallMessage   = 64 << 10
	clockTolerance = time.Second
	roundTrips     = 9
)

// longestAnswer bounds the time for the answer of a server.
const longestAnswer = 2 * time.Second

// Diagnose checks whether pipelines can be served and called with a configuration: the
// connection, JetStream and how it syncs, the permissions of the user, the machines that are
// there, and their clocks. It blocks for some seconds, and publishes a few messages below the
// subjects of gophersnake, which no machine answers. What is wrong is in the findings; the
// first is that of the connection, and without one there are no others.
func Diagnose(ctx context.Context, c Config) []runner.Finding {
	conn, err := Connect(ctx, c)
	if err != nil {
		e := runner.AsError(err)
		return []runner.Finding{{Name: "nats connection", Status: runner.FindingFailure, Detail: e.Error(), Hint: e.Hint}}
	}
	defer conn.Close()
	findings := []runner.Finding{conn.findConnection(), conn.findRoundTrip(), conn.findPayload()}
	findings = append(findings, conn.findJetStream(ctx)...)
	findings = append(findings, conn.findPermissions()...)
	return append(findings, conn.findMachines(ctx)...)
}

func (c *Conn) findConnection() runner.Finding {
	detail := fmt.Sprintf("server %s, version %s, at %s", c.nc.ConnectedServerName(), c.nc.ConnectedServerVersion(), redact(c.nc.ConnectedUrl()))
	if name := c.nc.ConnectedClusterName(); name != "" {
		detail += fmt.Sprintf(", cluster %s with %d servers", name, len(c.nc.Servers()))
	}
	if state, err := c.nc.TLSConnectionState(); err == nil && state.HandshakeComplete {
		return runner.Finding{Name: "nats connection", Status: runner.FindingOK, Detail: detail + ", TLS"}
	}
	if host := c.nc.ConnectedAddr(); !isLoopback(host) {
		return runner.Finding{Name: "nats connection", Status: runner.FindingWarning, Detail: detail + ", without TLS",
			Hint: "inputs, results and passwords can be read on the way; set tls in the configuration of the servers"}
	}
	return runner.Finding{Name: "nats connection", Status: runner.FindingOK, Detail: detail + ", without TLS, on this machine"}
}

func (c *Conn) findRoundTrip() runner.Finding {
	f := runner.Finding{Name: "nats round trip", Status: runner.FindingOK}
	times := make([]time.Duration, roundTrips)
	for i := range times {
		took, err := c.nc.RTT()
		if err != nil {
			return runner.Finding{Name: f.Name, Status: runner.FindingFailure, Detail: err.Error(), Hint: "the connection breaks; look at the log of the server"}
		}
		times[i] = took
	}
	slices.Sort(times)
	f.Detail = fmt.Sprintf("%v (the median of %d; %v to %v)", round(times[roundTrips/2]), roundTrips, round(times[0]), round(times[roundTrips-1]))
	if times[roundTrips/2] > slowRoundTrip {
		f.Status, f.Hint = runner.FindingWarning, "each call takes at least twice as long; use a server that is nearer"
	}
	return f
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

func (c *Conn) findPayload() runner.Finding {
	limit := c.nc.MaxPayload()
	f := runner.Finding{Name: "nats max payload", Status: runner.FindingOK, Detail: fmt.Sprintf("%d bytes; larger values go by the object store", limit)}
	if limit < smallMessage {
		f.Status, f.Hint = runner.FindingWarning, "the object store is much slower than a message; raise max_payload of the servers"
	}
	return f
}

// findJetStream returns findings about JetStream, and about how it syncs its streams.
func (c *Conn) findJetStream(ctx context.Context) []runner.Finding {
	f := runner.Finding{Name: "nats jetstream", Status: runner.FindingOK}
	ctx, cancel := context.WithTimeout(ctx, longestAnswer) // a denied request has no answer
	defer cancel()
	info, err := c.values.JS.AccountInfo(ctx)
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount), errors.Is(err, nats.ErrNoResponders):
		f.Status, f.Detail = runner.FindingWarning, "JetStream is not enabled for this account"
		f.Hint = "values that are larger than a message, and jobs, need it: set jetstream in the configuration of the servers"
		return []runner.Finding{f}
	case err != nil:
		f.Status, f.Detail = runner.FindingWarning, "it does not say how it is: "+err.Error()
		f.Hint = "the user may lack the permission to publish to $JS.API.INFO"
		return []runner.Finding{f}
	}
	f.Detail = fmt.Sprintf("%d streams, %d of %s bytes in files, %d of %s in memory", info.Streams,
		info.Store, limitText(info.Limits.MaxStore), info.Memory, limitText(info.Limits.MaxMemory))
	return []runner.Finding{f, c.findSync()}
}

func limitText(n int64) string {
	if n < 0 {
		return "any number of"
	}
	return fmt.Sprint(n)
}

// findSync returns the finding about when JetStream syncs. Only the system account may ask a
// server for its configuration.
func (c *Conn) findSync() runner.Finding {
	f := runner.Finding{Name: "nats sync", Status: runner.FindingOK}
	always, interval := false, time.Duration(0)
	switch {
	case c.server != nil:
		config := c.server.server.JetStreamConfig()
		always, interval = config.SyncAlways, config.SyncInterval
	default:
		msg, err := c.nc.Request("$SYS.REQ.SERVER.PING.JSZ", nil, longestRoll)
		var answer struct {
			Data struct {
				Config struct {
					SyncAlways   bool          `json:"sync_always"`
					SyncInterval time.Duration `json:"sync_interval"`
				} `json:"config"`
			} `json:"data"`
		}
		if err != nil || json.Unmarshal(msg.Data, &answer) != nil || answer.Data.Config.SyncInterval == 0 && !answer.Data.Config.SyncAlways {
			f.Detail = "this account may not ask the server when it syncs its streams"
			f.Hint = "what it has acknowledged survives a loss of power only with sync_interval: always in jetstream, or with replicas"
			return f
		}
		always, interval = answer.Data.Config.SyncAlways, answer.Data.Config.SyncInterval
	}
	if always {
		f.Detail = "after each write: what it has acknowledged survives a loss of power"
		return f
	}
	f.Status, f.Detail = runner.FindingWarning, fmt.Sprintf("every %v: what it has acknowledged since then is lost if the machine loses power", interval)
	f.Hint = "set sync_interval: always in jetstream, if a stream has no replicas"
	return f
}

// findPermissions tries what machines and callers need.
func (c *Conn) findPermissions() []runner.Finding {
	inbox := inboxPrefix(c.nc.NewInbox())
	answers := []access{{true, inbox + ".>"}}
	machine := append(slices.Clone(answers), access{true, subjectHello}, access{true, aliveSubject("*")}, access{true, callGroup("doctor", "none") + ".>"},
		access{true, "$SRV.PING"}, access{false, beatSubject("doctor")})
	caller := append(slices.Clone(answers), access{true, beatSubject("doctor")}, access{false, subjectHello}, access{false, aliveSubject("none")},
		access{false, callGroup("doctor", "none") + ".run"})
	var findings []runner.Finding
	for _, role := range []struct {
		name   string
		needed []access
	}{{"machine", machine}, {"caller", caller}} {
		f := runner.Finding{Name: "nats permissions of a " + role.name, Status: runner.FindingOK, Detail: "the user has them"}
		var missing []string
		for _, a := range role.needed {
			if err := c.try(a); err != nil {
				missing = append(missing, a.String())
			}
		}
		if len(missing) > 0 {
			f.Status, f.Detail = runner.FindingWarning, "the user must not "+strings.Join(missing, ", ")
			f.Hint = "that is right unless this program is to be a " + role.name
		}
		findings = append(findings, f)
	}
	return findings
}

// access is a right to subscribe or to publish to a subject.
type access struct {
	subscribe bool
	subject   string
}

func (a access) String() string {
	if a.subscribe {
		return "subscribe to " + a.subject
	}
	return "publish to " + a.subject
}

// try uses a right.
func (c *Conn) try(a access) error {
	before := c.nc.LastError()
	if !a.subscribe {
		if err := c.nc.Publish(a.subject, nil); err != nil {
			return err
		}
		return c.permitted(before)
	}
	sub, err := c.nc.SubscribeSync(a.subject)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	return c.permitted(before)
}

// findMachines returns a finding for each machine, and one for each pipeline that is not the
// same on all of them.
func (c *Conn) findMachines(ctx context.Context) []runner.Finding {
	machines, err := Machines(ctx, c)
	if err != nil {
		e := runner.AsError(err)
		return []runner.Finding{{Name: "machines", Status: runner.FindingWarning, Detail: "they cannot be asked: " + e.Error(), Hint: e.Hint}}
	}
	summary := runner.Finding{Name: "machines", Status: runner.FindingOK, Detail: fmt.Sprintf("%d machines serve pipelines to others", len(machines))}
	switch len(machines) {
	case 0:
		summary.Status, summary.Detail = runner.FindingWarning, "no machine serves a pipeline"
		summary.Hint = "start one: gophersnake serve PIPELINE --nats URL, in the same account"
	case 1:
		summary.Detail = "1 machine serves pipelines to others"
	}
	findings := []runner.Finding{summary}
	schemas := make(map[string]map[string][]string) // the machines, by pipeline and schema
	names := make(map[string]int)
	for i := range machines {
		m := &machines[i]
		f := m.finding()
		if names[m.Name]++; names[m.Name] > 1 {
			f.Name += " (" + m.ID + ")"
		}
		findings = append(findings, f)
		for _, p := range m.Pipelines {
			if schemas[p.Name] == nil {
				schemas[p.Name] = make(map[string][]string)
			}
			schemas[p.Name][p.Schema] = append(schemas[p.Name][p.Schema], m.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(schemas)) {
		if f := differ(name, schemas[name]); f.Name != "" {
			findings = append(findings, f)
		}
	}
	return findings
}

// finding says what a machine is.
func (m *MachineStatus) finding() runner.Finding {
	f := runner.Finding{Name: "machine " + m.Name, Status: runner.FindingOK}
	f.Detail = fmt.Sprintf("gophersnake %s, protocol %s", m.Version, m.protocols())
	for _, key := range slices.Sorted(maps.Keys(m.Labels)) {
		f.Detail += fmt.Sprintf(", %s=%s", key, m.Labels[key])
	}
	for _, p := range m.Pipelines {
		f.Detail += fmt.Sprintf("; %s: %d of %d slots taken, schema %s", p.Name, p.Active, p.Slots, cmp.Or(p.Schema, "unknown"))
	}
	if m.Leaving {
		f.Detail += "; it drains"
	}
	if d, ok := m.clock(); ok {
		f.Detail += fmt.Sprintf("; its clock is %v %s", d.Abs().Round(time.Millisecond), aheadOrBehind(d))
		if d.Abs() > clockTolerance {
			f.Status, f.Hint = runner.FindingWarning, "set its clock, or this one's, by NTP: the times in logs and traces do not fit each other"
		}
	}
	if !m.Usable {
		f.Status = runner.FindingWarning
		f.Hint = fmt.Sprintf("this program speaks %s of the protocol and cannot call it; update the older side", versions(oldestProtocol, newestProtocol))
	}
	return f
}

// clock returns how far the machine's clock is ahead, as far as can be told: the answer may have
// been written at any time between the question and its arrival.
func (m *MachineStatus) clock() (ahead time.Duration, ok bool) {
	switch {
	case m.Time.IsZero():
		return 0, false
	case m.Time.Before(m.Asked):
		return m.Time.Sub(m.Asked), true
	case m.Time.After(m.Heard):
		return m.Time.Sub(m.Heard), true
	}
	return 0, true
}

func aheadOrBehind(d time.Duration) string {
	if d < 0 {
		return "behind"
	}
	return "ahead"
}

// differ returns a finding about a pipeline with several schemas.
func differ(pipeline string, machines map[string][]string) runner.Finding {
	delete(machines, "") // of machines that do not say
	if len(machines) < 2 {
		return runner.Finding{}
	}
	var parts []string
	for _, schema := range slices.Sorted(maps.Keys(machines)) {
		parts = append(parts, schema+" on "+strings.Join(machines[schema], " and "))
	}
	return runner.Finding{
		Name: "pipeline " + pipeline, Status: runner.FindingWarning, Detail: "it has several schemas: " + strings.Join(parts, ", "),
		Hint: "that is right during an update; otherwise the code of the machines differs in nodes, inputs or results",
	}
}
