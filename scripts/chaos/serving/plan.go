package serving

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// The names of the pipelines.
const (
	workName   = "work"
	streamName = "stream"
	linesName  = "lines"
)

// form is a form of requests.
type form struct {
	name     string
	weight   int // how often it is chosen, relative to the others
	pipeline string
	accept   string
	do       func(c *client, p *plan) (outcome, string)
}

// forms are all forms.
var forms = []form{
	{"call", 6, workName, "application/json", (*client).call},
	{"call of a node", 2, workName, "application/json", (*client).call},
	{"two calls with one key", 2, workName, "application/json", (*client).callTwice},
	{"stream of events", 2, streamName, typeEvents, (*client).readStream},
	{"stream of lines", 2, streamName, typeLines, (*client).readStream},
	{"stream of inputs", 2, linesName, typeLines, (*client).dialog},
}

// The content types of streams.
const (
	typeEvents = "text/event-stream"
	typeLines  = "application/x-ndjson"
)

// plan is what a request asks for, and what its client does.
type plan struct {
	number  uint64
	form    *form
	nap     time.Duration // of the node
	size    int           // of the data
	steps   int           // of a stream
	fails   bool          // the node raises an exception
	leaves  bool          // the client leaves after the delay
	delay   time.Duration
	timeout time.Duration // of the request; 0 for none
	client  int           // the index of the HTTP client
}

// newPlan returns the plan that a seed determines for a request.
func newPlan(seed, number uint64, clients int) *plan {
	random := rand.New(rand.NewPCG(seed, number))
	p := &plan{number: number, form: chooseForm(random), client: random.IntN(clients)}
	p.nap = time.Duration(random.IntN(4)) * time.Millisecond
	p.size = 10
	if random.IntN(50) == 0 {
		p.size = 200_000
	}
	p.steps = 1 + random.IntN(8)
	p.leaves = random.IntN(2) == 0
	longest := []time.Duration{5 * time.Millisecond, 100 * time.Millisecond, time.Second, 8 * time.Second}
	p.delay = time.Duration(random.Int64N(int64(longest[random.IntN(len(longest))])))
	if p.form.pipeline == workName {
		p.fails = random.IntN(20) == 0
	}
	if random.IntN(20) == 0 {
		p.timeout = time.Millisecond + time.Duration(random.IntN(500))*time.Millisecond
	}
	return p
}

func chooseForm(random *rand.Rand) *form {
	total := 0
	for i := range forms {
		total += forms[i].weight
	}
	n := random.IntN(total)
	for i := range forms {
		if n -= forms[i].weight; n < 0 {
			return &forms[i]
		}
	}
	panic("the weights do not add up")
}

// allowed returns the outcomes that the request may have.
func (p *plan) allowed() []outcome {
	allowed := []outcome{died, refused}
	if p.fails {
		allowed = append(allowed, raised)
	} else {
		allowed = append(allowed, right)
	}
	if p.leaves {
		allowed = append(allowed, left)
	}
	if p.timeout > 0 {
		allowed = append(allowed, deadline)
	}
	return allowed
}

func (p *plan) String() string {
	text := fmt.Sprintf("request %d (%s, data of %d bytes, %d steps", p.number, p.form.name, p.size, p.steps)
	if p.fails {
		text += ", raises"
	}
	if p.leaves {
		text += fmt.Sprintf(", leaves after %v", p.delay)
	}
	if p.timeout > 0 {
		text += fmt.Sprintf(", may take %v", p.timeout)
	}
	return text + ")"
}
