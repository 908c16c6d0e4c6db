package distributed

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/cluster"
)

const (
	// inFlight is how many calls the caller has in progress.
	inFlight = 64
	// callsFactor multiplies the number of calls of a round, so that its start and end have little
	// weight.
	callsFactor = 100
	// callTimeout is the deadline of a request of NATS alone, which needs one.
	callTimeout = time.Minute
)

// PythonEcho is the name of the task that calls a node in Python.
const PythonEcho = "`Client.Run`, a node in Python"

// smallText is what small calls carry.
const smallText = "hello, world"

var errOther = errors.New("the result is not what was sent")

// concurrently makes a number of calls, at most limit at once.
func concurrently(calls, limit int, call func(i int) error) (time.Duration, error) {
	var group errgroup.Group
	var next atomic.Int64
	started := time.Now()
	for range limit {
		group.Go(func() error {
			for i := int(next.Add(1)); i <= calls; i = int(next.Add(1)) {
				if err := call(i - 1); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return time.Since(started), err
}

// warmed calls a task once, so that all is started and connected when it is measured.
func warmed(t Task) (Task, error) {
	_, err := t.Run()
	return t, err
}

// setUpCalls compares small calls with requests of NATS alone.
func setUpCalls(ctx context.Context, h Host, calls int) (_ []Table, _ func() error, err error) {
	f, err := startFleet(ctx, h, true)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	if err := f.start(ctx, &struct{}{}, roleResponder, responderSettings{f.url}); err != nil {
		return nil, nil, err
	}
	if err := f.machine(ctx, machineSettings{Pipelines: []string{goName, "echo"}}); err != nil {
		return nil, nil, err
	}
	one, err := f.bare(1)
	if err != nil {
		return nil, nil, err
	}
	many, err := f.bare(inFlight)
	if err != nil {
		return nil, nil, err
	}
	inGo, err := f.dial(ctx, goName)
	if err != nil {
		return nil, nil, err
	}
	inPython, err := f.dial(ctx, "echo")
	if err != nil {
		return nil, nil, err
	}
	n := callsFactor * calls
	t := Table{Title: fmt.Sprintf("Small calls over NATS, %d in flight", inFlight), Rate: true}
	for _, task := range []Task{
		{"requests of NATS alone, one connection", float64(n), bareTask(n, one)},
		{fmt.Sprintf("requests of NATS alone, %d connections, as `nats bench service`", inFlight), float64(n), bareTask(n, many)},
		{"`Client.Run`, a node in Go", float64(n), runTask(ctx, n, inGo)},
		{PythonEcho, float64(n), runTask(ctx, n, inPython)},
	} {
		if task, err = warmed(task); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", task.Name, err)
		}
		t.Tasks = append(t.Tasks, task)
	}
	return []Table{t}, f.close, nil
}

// bare returns connections without anything of gophersnake.
func (f *fleet) bare(n int) (all []*nats.Conn, err error) {
	for range n {
		conn, err := nats.Connect(f.url)
		if err != nil {
			return nil, err
		}
		f.addVoid(conn.Close)
		all = append(all, conn)
	}
	return all, nil
}

// bareTask makes requests with [inFlight] callers; each uses one of the connections.
func bareTask(n int, conns []*nats.Conn) func() (time.Duration, error) {
	payload := []byte(smallText)
	return func() (time.Duration, error) {
		var caller atomic.Int64
		var group errgroup.Group
		started := time.Now()
		for i := range inFlight {
			conn := conns[i%len(conns)]
			group.Go(func() error {
				for int(caller.Add(1)) <= n {
					msg, err := conn.Request(bareSubject, payload, callTimeout)
					if err != nil {
						return err
					}
					if len(msg.Data) != len(payload) {
						return errOther
					}
				}
				return nil
			})
		}
		err := group.Wait()
		return time.Since(started), err
	}
}

func runTask(ctx context.Context, n int, c *cluster.Client) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		return concurrently(n, inFlight, func(int) error {
			v, err := c.Run(ctx, smallText)
			if err == nil && v != smallText {
				err = errOther
			}
			return err
		})
	}
}

// setUpValues compares a call with 4 MiB with the object store alone.
func setUpValues(ctx context.Context, h Host, calls int) (_ []Table, _ func() error, err error) {
	f, err := startFleet(ctx, h, true)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	if err := f.machine(ctx, machineSettings{Pipelines: []string{"same"}}); err != nil {
		return nil, nil, err
	}
	client, err := f.dial(ctx, "same")
	if err != nil {
		return nil, nil, err
	}
	conns, err := f.bare(2)
	if err != nil {
		return nil, nil, err
	}
	var stores []jetstream.ObjectStore
	for _, conn := range conns {
		js, err := jetstream.New(conn)
		if err != nil {
			return nil, nil, err
		}
		store, err := js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: "bare", Storage: jetstream.MemoryStorage})
		if err != nil {
			return nil, nil, err
		}
		stores = append(stores, store)
	}
	n := max(calls/20, 1)
	array, err := ipc.NewTensor(make([]float32, 1<<20), 1<<20)
	if err != nil {
		return nil, nil, err
	}
	t := Table{Title: "4 MiB there and back over NATS, one call after the other"}
	for _, task := range []Task{
		{"the object store alone: put, get and delete there, and the same back", float64(n), func() (time.Duration, error) {
			return concurrently(n, 1, func(i int) error {
				if err := relay(ctx, stores[0], stores[1], fmt.Sprint(i), array.Data); err != nil {
					return err
				}
				return relay(ctx, stores[1], stores[0], fmt.Sprint(i), array.Data)
			})
		}},
		{"`Client.Run` of a node in Python that returns the array", float64(n), func() (time.Duration, error) {
			return concurrently(n, 1, func(int) error {
				v, err := client.Run(ctx, array)
				if back, ok := v.(*ipc.Tensor); err == nil && (!ok || len(back.Data) != len(array.Data)) {
					err = errOther
				}
				return err
			})
		}},
	} {
		if task, err = warmed(task); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", task.Name, err)
		}
		t.Tasks = append(t.Tasks, task)
	}
	return []Table{t}, f.close, nil
}

// relay puts a value into a store, and gets and deletes it over another connection.
func relay(ctx context.Context, from, to jetstream.ObjectStore, name string, value []byte) error {
	if _, err := from.PutBytes(ctx, name, value); err != nil {
		return err
	}
	back, err := to.GetBytes(ctx, name)
	if err != nil {
		return err
	}
	if len(back) != len(value) {
		return errOther
	}
	return to.Delete(ctx, name)
}

// fleets are the numbers of machines of the growth.
var fleets = []int{1, 2, 4}

// setUpGrowth measures calls and jobs of a node that sleeps for 10 ms on 1, 2 and 4 machines with
// a worker each.
func setUpGrowth(ctx context.Context, h Host, calls int) (_ []Table, _ func() error, err error) {
	var all stack
	defer func() {
		if err != nil {
			err = errors.Join(err, all.close())
		}
	}()
	rates := []Table{
		{Title: "Calls of a node that sleeps for 10 ms, one worker a machine", Rate: true},
		{Title: "Jobs of a node that sleeps for 10 ms, one worker a machine", Rate: true},
	}
	for _, count := range fleets {
		f, err := startFleet(ctx, h, true)
		if err != nil {
			return nil, nil, err
		}
		all.add(f.close)
		for range count {
			if err := f.machine(ctx, machineSettings{Pipelines: []string{"sleep"}, Jobs: true, Both: true}); err != nil {
				return nil, nil, err
			}
		}
		client, err := f.dial(ctx, "sleep")
		if err != nil {
			return nil, nil, err
		}
		queue, err := f.queue(ctx, "sleep")
		if err != nil {
			return nil, nil, err
		}
		n := max(calls/2, 4) * count
		name := fmt.Sprintf("%d machines", count)
		if count == 1 {
			name = "1 machine"
		}
		for i, task := range []Task{
			{name, float64(n), func() (time.Duration, error) {
				return concurrently(n, 4*count, func(int) error { _, err := client.Run(ctx, smallText); return err })
			}},
			{name, float64(n), queue.task(ctx, n)},
		} {
			if task, err = warmed(task); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", rates[i].Title, err)
			}
			rates[i].Tasks = append(rates[i].Tasks, task)
		}
	}
	return rates, all.close, nil
}
