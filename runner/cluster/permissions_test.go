package cluster_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

var update = flag.Bool("update", false, "rewrite the tables in docs")

// permission is a right of a role.
type permission struct {
	verb, subject string
	purpose       string // what the role does with it
	fails         string // the stage that fails without it
	sometimes     bool   // it is not needed each time
}

// The inboxes of the roles in the tests and in the table.
const (
	machineInbox = "_INBOX.machine"
	callerInbox  = "_INBOX.caller"
)

// stages are the steps of a scenario, in their order.
const (
	stageAnnounce = "the announcement"
	stageServices = "`nats micro ls`"
	stageDial     = "`Dial`"
	stageCall     = "each call"
	stageLong     = "the watch over a longer call"
	stageLarge    = "a value that is larger than a message"
)

// role is a kind of program with the least permissions that it needs.
type role struct {
	user, name string
	needs      []permission
}

// cast is the roles of a scenario, and its steps.
type cast struct {
	roles  []role
	stages []stage
}

// casts are the scenarios: calls, and jobs.
func casts() []cast { return []cast{{roles(), stages}, {jobRoles(), jobStages}} }

// large are the permissions for values that are larger than a message, of both roles.
func large() []permission {
	const bucketStream = "OBJ_gophersnake-values"
	var all []permission
	for _, each := range [][2]string{
		{"$JS.API.STREAM.INFO." + bucketStream, "finds the bucket for large values"},
		{"$JS.API.STREAM.CREATE." + bucketStream, "creates it, unless another program has"},
		{"$JS.API.DIRECT.GET." + bucketStream + ".>", "reads what a value consists of"},
		{"$JS.API.CONSUMER.CREATE." + bucketStream + ".>", "reads a value"},
		{"$JS.API.CONSUMER.DELETE." + bucketStream + ".*", "has read a value"},
		{"$JS.API.STREAM.PURGE." + bucketStream, "deletes a value that it has taken"},
		{"$JS.FC." + bucketStream + ".>", "lets the server send the rest of a value"},
		{"$O.gophersnake-values.>", "stores a value"},
	} {
		isFlow := strings.HasPrefix(each[0], "$JS.FC.") // the server asks for it when it is faster than the reader
		all = append(all, permission{verb: "publish", subject: each[0], purpose: each[1], fails: stageLarge, sometimes: isFlow})
	}
	return all
}

// roles are the roles with the least permissions that each needs.
func roles() []role {
	return []role{
		{"machine", "machine", append([]permission{
			{verb: "subscribe", subject: "gophersnake.hello", purpose: "is found by new clients", fails: stageAnnounce},
			{verb: "subscribe", subject: "gophersnake.alive.*", purpose: "answers pings", fails: stageAnnounce},
			{verb: "subscribe", subject: "gophersnake.call.>", purpose: "takes calls", fails: stageAnnounce},
			{verb: "subscribe", subject: "$SRV.>", purpose: "is seen by `nats micro`", fails: stageAnnounce},
			{verb: "subscribe", subject: machineInbox + ".>", purpose: "gets answers to its own questions", fails: stageAnnounce},
			{verb: "publish", subject: "gophersnake.beat.*", purpose: "announces its pipelines", fails: stageAnnounce},
			{verb: "publish", subject: callerInbox + ".>", purpose: "answers calls, and pings callers", fails: stageDial},
			{verb: "publish", subject: "_INBOX.admin.>", purpose: "answers `nats micro`", fails: stageServices},
		}, large()...)},
		{"caller", "caller", append([]permission{
			{verb: "subscribe", subject: "gophersnake.beat.*", purpose: "knows the machines and what is free", fails: stageDial},
			{verb: "subscribe", subject: callerInbox + ".>", purpose: "gets answers", fails: stageDial},
			{verb: "publish", subject: "gophersnake.hello", purpose: "finds the machines", fails: stageDial},
			{verb: "publish", subject: "gophersnake.call.>", purpose: "calls", fails: stageCall},
			{verb: "publish", subject: "gophersnake.alive.*", purpose: "pings machines", fails: stageLong},
			{verb: "publish", subject: machineInbox + ".>", purpose: "answers the pings of machines", fails: stageLong},
		}, large()...)},
	}
}

// users returns the users of an account in the configuration of a server. One permission of one
// role may be left out.
func users(account int, of []role, lacking string, without *permission) string {
	text := fmt.Sprintf("{ user: admin%d, password: admin%d }", account, account)
	for _, r := range of {
		allowed := map[string][]string{"publish": {"none"}, "subscribe": {"none"}}
		for _, p := range r.needs {
			if r.user != lacking || without == nil || p != *without {
				allowed[p.verb] = append(allowed[p.verb], p.subject)
			}
		}
		text += fmt.Sprintf("\n{ user: %[1]s%[2]d, password: %[1]s%[2]d, permissions: { publish: { allow: %[3]s }, subscribe: { allow: %[4]s } } }",
			r.user, account, quoted(allowed["publish"]), quoted(allowed["subscribe"]))
	}
	return text
}

func quoted(subjects []string) string {
	return `["` + strings.Join(subjects, `", "`) + `"]`
}

// violations are what two connections have reported about permissions.
type violations struct {
	cancel context.CancelFunc // at the first one

	mu  sync.Mutex
	all []string
}

func (v *violations) add(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.all = append(v.all, text)
	v.cancel()
}

func (v *violations) list() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.all)
}

// Enabled implements [slog.Handler].
func (v *violations) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements [slog.Handler].
func (v *violations) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if strings.Contains(a.Value.String(), "Permissions Violation") {
			v.add(a.Value.String())
		}
		return true
	})
	return nil
}

// WithAttrs implements [slog.Handler].
func (v *violations) WithAttrs([]slog.Attr) slog.Handler { return v }

// WithGroup implements [slog.Handler].
func (v *violations) WithGroup(string) slog.Handler { return v }

// scenario is all that a machine and a caller do, in an account of their own.
type scenario struct {
	t       *testing.T
	ctx     context.Context // ends with the first violation
	seen    *violations
	url     string
	account int
	cast    cast
	role    string // the user that lacks a permission

	admin   *cluster.Conn
	conns   map[string]*cluster.Conn // by user
	served  *cluster.Machine
	client  *cluster.Client
	release chan struct{} // lets the node return
	jobs    jobScenario
}

// stage is a step of a scenario.
type stage struct {
	name string
	do   func(*scenario) error
}

var stages = []stage{
	{stageAnnounce, (*scenario).announce}, {stageServices, (*scenario).services}, {stageDial, (*scenario).dial},
	{stageCall, (*scenario).call}, {stageLong, (*scenario).long}, {stageLarge, (*scenario).large},
}

// connect connects as the user of a role.
func (s *scenario) connect(role string) *cluster.Conn {
	s.t.Helper()
	user := fmt.Sprintf("%s%d", role, s.account)
	conn, err := cluster.Connect(s.t.Context(), cluster.Config{
		URLs: []string{strings.Replace(s.url, "://", "://"+user+":"+user+"@", 1)}, InboxPrefix: "_INBOX." + role,
		Logger: slog.New(s.seen), ValueBytes: 32 << 20,
	})
	require.NoError(s.t, err)
	s.t.Cleanup(conn.Close)
	return conn
}

// play goes through the stages until one fails, and returns the name of that one.
func (s *scenario) play() (failed string, err error) {
	s.admin, s.conns = s.connect("admin"), make(map[string]*cluster.Conn)
	for _, r := range s.cast.roles {
		s.conns[r.user] = s.connect(r.user)
	}
	defer func() {
		s.jobs.close()
		if s.client != nil {
			s.client.Close()
		}
		if s.served != nil {
			s.served.Close()
		}
	}()
	for _, step := range s.cast.stages {
		err := step.do(s)
		for _, conn := range s.conns {
			if last := conn.NATS().Flush(); last != nil {
				return step.name, last
			}
			if last := conn.NATS().LastError(); last != nil {
				s.seen.add(last.Error())
			}
		}
		if err != nil || len(s.seen.list()) > 0 {
			return step.name, err
		}
	}
	return "", nil
}

func (s *scenario) announce() (err error) {
	r, err := clustertest.NewRunner("nodes: [{id: go, node_type: go}]", runner.WithNode("go", func(ctx context.Context, in runner.Input) (any, error) {
		switch in.Value {
		case "hold":
			select {
			case <-s.release:
			case <-ctx.Done():
			}
		case "large":
			return make([]byte, 2<<20), nil
		}
		return in.Value, nil
	}))
	if err != nil {
		return err
	}
	s.t.Cleanup(func() { assert.NoError(s.t, r.Close(context.Background())) })
	s.served, err = cluster.Announce(s.ctx, s.conns["machine"], map[string]*runner.Runner{"go": r})
	return err
}

func (s *scenario) services() error {
	_, err := s.admin.NATS().RequestWithContext(s.ctx, "$SRV.INFO.go", nil)
	return err
}

// overhear lets the administrator see a message to each of the subjects.
func (s *scenario) overhear(subjects ...string) (wait func() error) {
	var subs []*nats.Subscription
	for _, subject := range subjects {
		sub, err := s.admin.NATS().SubscribeSync(subject)
		require.NoError(s.t, err)
		subs = append(subs, sub)
	}
	require.NoError(s.t, s.admin.NATS().Flush())
	return func() error {
		for _, sub := range subs {
			if _, err := sub.NextMsgWithContext(s.ctx); err != nil {
				return fmt.Errorf("%s: %w", sub.Subject, err)
			}
			_ = sub.Unsubscribe()
		}
		return nil
	}
}

func (s *scenario) dial() (err error) {
	answered := s.overhear(callerInbox + ".*.hello")
	if s.client, err = cluster.Dial(s.ctx, s.conns["caller"], "go", cluster.WithWait(testkit.Long)); err != nil {
		return err
	}
	return answered()
}

func (s *scenario) call() error {
	_, err := s.client.Run(s.ctx, "x")
	if err == nil {
		_, err = s.client.Node("go").Call(s.ctx, "x")
	}
	return err
}

func (s *scenario) long() error {
	asked := s.overhear("gophersnake.alive.*", callerInbox+".*.ping", callerInbox+".*.inventory", machineInbox+".>")
	done := goRun(s.ctx, s.client, "hold")
	err := asked()
	close(s.release)
	return errors.Join(err, await(s.t, done).err)
}

func (s *scenario) large() error {
	inputs := []any{make([]byte, 2<<20), "large"} // the first creates the bucket
	if s.role == "machine" {
		slices.Reverse(inputs)
	}
	_, err := s.client.Run(s.ctx, inputs[0])
	if err == nil {
		_, err = s.client.Run(s.ctx, inputs[1])
	}
	if err == nil && len(s.seen.list()) == 0 {
		assert.Empty(s.t, storedValues(s.t, s.admin))
	}
	return err
}

func TestThePermissionsOfEachRoleAreEnoughAndEachIsNeeded(t *testing.T) {
	type variation struct {
		cast    cast
		role    string
		without *permission
	}
	var variations []variation
	for _, c := range casts() {
		variations = append(variations, variation{cast: c})
		for _, r := range c.roles {
			for i := range r.needs {
				variations = append(variations, variation{c, r.user, &r.needs[i]})
			}
		}
	}
	config := fmt.Sprintf("jetstream { store_dir: %q }\naccounts {\n", t.TempDir())
	for i, v := range variations {
		config += fmt.Sprintf("a%d { jetstream: enabled, users: [ %s ] }\n", i, users(i, v.cast.roles, v.role, v.without))
	}
	url := runServer(t, config+"}\n")
	for i, v := range variations {
		name := "all of a " + v.cast.roles[0].user
		if v.without != nil {
			name = v.role + " must not " + v.without.verb + " " + v.without.subject
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), testkit.Long)
			defer cancel()
			s := &scenario{t: t, ctx: ctx, seen: &violations{cancel: cancel}, url: url, account: i, cast: v.cast, role: v.role, release: make(chan struct{})}
			failed, err := s.play()
			if v.without == nil {
				require.NoError(t, err)
				assert.Empty(t, s.seen.list())
				assert.Empty(t, failed)
				return
			}
			if v.without.sometimes && failed == "" {
				return
			}
			assert.Equal(t, v.without.fails, failed, err)
			said := strings.Join(s.seen.list(), "\n")
			subject := strings.TrimRight(v.without.subject, "*>")
			assert.Contains(t, said, subject, "the error, or the log, names the subject")
		})
	}
}

func TestTheGuideHasTheTableOfPermissions(t *testing.T) {
	var b strings.Builder
	for _, r := range slices.Concat(roles(), jobRoles()) {
		fmt.Fprintf(&b, "\n| a %s must be able to | because it | without it, this fails |\n| --- | --- | --- |\n", r.name)
		for _, p := range r.needs {
			fmt.Fprintf(&b, "| %s to `%s` | %s | %s |\n", p.verb, p.subject, p.purpose, p.fails)
		}
	}
	const file, begin, end = "../docs/cluster.md", "<!-- permissions -->\n", "\n<!-- end of the permissions -->"
	old, err := os.ReadFile(file)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(old), begin)
	require.True(t, ok)
	_, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	document := before + begin + b.String() + end + after
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(document), 0o644))
		return
	}
	assert.Equal(t, string(old), document, "run go test ./runner/cluster -run "+t.Name()+" -update")
}
