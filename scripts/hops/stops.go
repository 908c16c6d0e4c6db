package main

// longestTrivial is the length in lines up to which, by default, a function that calls
// no other function of the project is no stop.
const longestTrivial = 20

// visit is one entry of control into a function. from is the function that control came
// from, or outside if control came from no function of the project in the same thread but,
// for instance, from another goroutine, the other process or the traced program itself.
type visit struct {
	function, from int  // indexes in the list of functions
	isReturn       bool // from returned to the function, which was entered before the call
	depth          int  // the depth of the call stack in its thread
}

// outside stands for code that is not part of the project.
const outside = -1

// stop is a function that control enters from another file.
type stop struct {
	Language string `json:"language"`
	File     string `json:"file"`
	Function string `json:"function"`
	Jump     bool   `json:"jump_back"`

	index int
}

// path is the sequence of stops of one call.
type path struct {
	Stops []stop `json:"stops"`
	Files int    `json:"files"`
	Jumps int    `json:"jumps_back"`
	// Functions counts all functions that were entered, trivial ones included.
	Functions int `json:"functions"`

	visits []visit
}

// follow returns the path for visits, which must be in the order of time. A function of at
// most trivial lines that calls no other one is no stop.
func follow(visits []visit, functions []function, trivial int) path {
	p := path{visits: visits}
	entered, calls, isStop := map[int]bool{}, map[int]bool{}, map[int]bool{}
	for _, v := range visits {
		entered[v.function] = true
		caller := v.from
		if v.isReturn {
			caller = v.function
		}
		calls[caller] = true
	}
	p.Functions = len(entered)
	left := map[string]bool{} // the files of the stops so far
	last := ""
	for _, v := range visits {
		f := functions[v.function]
		isTrivial := !calls[v.function] && f.Lines <= trivial && f.File != nodeFile
		isSameFile := v.from != outside && functions[v.from].File == f.File
		if isStop[v.function] || isTrivial || isSameFile {
			continue
		}
		isStop[v.function] = true
		s := stop{Language: f.language(), File: f.File, Function: f.Name, index: v.function}
		s.Jump = f.File != last && left[f.File]
		if s.Jump {
			p.Jumps++
		}
		left[f.File], last = true, f.File
		p.Stops = append(p.Stops, s)
	}
	p.Files = len(left)
	return p
}

// mostCommon returns the path with the stops that most of the paths have, and how many
// have exactly these.
func mostCommon(paths []path) (path, int) {
	key := func(p path) string {
		text := ""
		for _, s := range p.Stops {
			text += s.File + " " + s.Function + "\n"
		}
		return text
	}
	count := map[string]int{}
	var best path
	most := 0
	for _, p := range paths {
		k := key(p)
		count[k]++
		if count[k] > most {
			most, best = count[k], p
		}
	}
	return best, most
}
