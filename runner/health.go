package runner

import (
	"encoding/json"
	"time"

	"github.com/gophersnake/gophersnake/retry"
)

// HealthState says whether a node, or the whole runner, can serve calls.
type HealthState string

// The states, the better ones first.
const (
	// StateHealthy serves, and all is as it should be.
	StateHealthy HealthState = "healthy"
	// StateDegraded serves, but with less than it should: workers or a spare are
	// missing, or a circuit breaker is half-open.
	StateDegraded HealthState = "degraded"
	// StateNew has started nothing yet.
	StateNew HealthState = "new"
	// StateStarting is on its way.
	StateStarting HealthState = "starting"
	// StateDraining finishes what is under way and takes nothing more.
	StateDraining HealthState = "draining"
	// StateUnhealthy cannot serve. There is always an error that says why.
	StateUnhealthy HealthState = "unhealthy"
	// StateClosed has ended.
	StateClosed HealthState = "closed"
)

// serves reports whether calls can be expected to be answered.
func (s HealthState) serves() bool { return s == StateHealthy || s == StateDegraded }

// worse orders the states: the one of a runner is the worst of its nodes'.
func (s HealthState) worse(than HealthState) bool { return healthRank[s] > healthRank[than] }

var healthRank = map[HealthState]int{
	StateHealthy: 0, StateDegraded: 1, StateNew: 2, StateStarting: 3, StateDraining: 4, StateUnhealthy: 5, StateClosed: 6,
}

// Health is how a runner is. Its String is a table for people.
type Health struct {
	// State is the worst of the nodes', or the runner's own.
	State HealthState `json:"state"`
	// Reason says why, in words; it is empty where all is well.
	Reason string `json:"reason,omitempty"`
	// Err is the error behind it, never nil where State is [StateUnhealthy].
	Err *Error `json:"error,omitempty"`
	// Nodes are the nodes in the order in which they run.
	Nodes []NodeHealth `json:"nodes"`
}

// OK reports whether the runner serves.
func (h Health) OK() bool { return h.State.serves() }

// NodeHealth is how a node is. Nodes in Go have no workers.
type NodeHealth struct {
	Node  string      `json:"node"`
	State HealthState `json:"state"`
	// Reason says why, and Err is the error behind it, as in [Health].
	Reason string `json:"reason,omitempty"`
	Err    *Error `json:"error,omitempty"`
	// Since is when it came into this state; zero where that is not known.
	Since time.Time `json:"since,omitzero"`

	// Breaker is the state of its circuit breaker, closed where it has none, and
	// Failures how many operations have failed in a row.
	Breaker  retry.State `json:"breaker"`
	Failures int         `json:"failures"`
	// LastError is the last one that the breaker counted.
	LastError *Error `json:"last_error,omitempty"`

	// Calls, Retries and Failed are how many operations there were, how many of
	// their attempts were tried again, and how many operations failed by the kind of
	// their error.
	Calls   uint64          `json:"calls"`
	Retries uint64          `json:"retries"`
	Failed  map[Kind]uint64 `json:"failed,omitempty"`

	// Pool is how its workers are, nil where it has none.
	Pool *PoolHealth `json:"pool,omitempty"`
}

// PoolHealth is how the workers of a node are.
type PoolHealth struct {
	// Min and Max are how many are to be.
	Min int `json:"min"`
	Max int `json:"max"`
	// Idle and Busy serve, Spares stand by, and Starting are on their way.
	Idle     int `json:"idle"`
	Busy     int `json:"busy"`
	Spares   int `json:"spares"`
	Starting int `json:"starting"`
	// Waiting is how many calls are in line.
	Waiting int `json:"waiting"`
	// SpareNote says why there is no spare although there should be one.
	SpareNote string `json:"spare_note,omitempty"`
	// ForkNote says why workers are not forked although they should be.
	ForkNote string `json:"fork_note,omitempty"`
	// ConsecutiveFailures is how many workers in a row died or failed to start, and NextStart
	// is when the next one is tried: a crash loop.
	ConsecutiveFailures int       `json:"setbacks,omitempty"`
	NextStart           time.Time `json:"next_start,omitzero"`
	// Generation counts the reloads.
	Generation int `json:"generation"`

	Started       uint64            `json:"started"`
	StartFailures uint64            `json:"start_failures"`
	Promoted      uint64            `json:"promoted"`
	Deaths        map[string]uint64 `json:"deaths,omitempty"`  // by cause
	Retired       map[string]uint64 `json:"retired,omitempty"` // by limit
	Refused       map[string]uint64 `json:"refused,omitempty"` // by limit
	Breaches      map[string]uint64 `json:"breaches,omitempty"`

	// LastDeath says how the last worker died, nil where none has.
	LastDeath *WorkerDeath `json:"last_death,omitempty"`
	// Workers are those that are alive.
	Workers []WorkerHealth `json:"workers"`
}

// WorkerDeath is the death of a worker.
type WorkerDeath struct {
	Time time.Time `json:"time"`
	Err  *Error    `json:"error"`
}

// WorkerHealth is how one worker is. Figures that are not known are 0.
type WorkerHealth struct {
	PID int `json:"pid"`
	// Role is serving, spare or retiring.
	Role string `json:"role"`
	// Load is how many calls it has, and Sessions how many streams stick to it.
	Load     int `json:"load"`
	Sessions int `json:"sessions"`
	// Calls is how many it was given.
	Calls uint64 `json:"calls"`
	// Age is how long it has lived, and Idle how long it has had nothing to do.
	Age  Seconds `json:"age"`
	Idle Seconds `json:"idle"`
	// Resident is its memory in use in bytes, CPU its processor time, and OpenFiles
	// its open descriptors.
	Resident  int64   `json:"resident"`
	CPU       Seconds `json:"cpu"`
	OpenFiles int     `json:"open_files"`
}

// Seconds is a duration that is a number of seconds in JSON.
type Seconds time.Duration

// MarshalJSON writes the number.
func (s Seconds) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(s).Seconds()) }

// String writes it as a duration.
func (s Seconds) String() string { return round(time.Duration(s)).String() }
