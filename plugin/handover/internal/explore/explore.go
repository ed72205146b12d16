package explore

import (
	"fmt"
	"strings"
)

// Result is what was gone through.
type Result struct {
	States, Transitions, Ends int
	// Arrived says that there is a way for the agent to move, and home again: tables that refuse everything are safe, too.
	Arrived, Returned bool
}

// Violation is a rule that was broken, and the way there.
type Violation struct {
	Rule string
	Way  []string
}

func (v *Violation) Error() string { return v.Rule + ":\n  " + strings.Join(v.Way, "\n  ") }

// Run goes through all states, the nearest first, and answers the shortest way to a broken rule as a *Violation.
func (t Tables) Run() (Result, error) {
	x := &search{tables: t, index: map[world]int{}}
	x.meet(start(), -1, name{})
	for i := 0; i < len(x.worlds); i++ {
		if err := x.expand(i); err != nil {
			return x.result, err
		}
	}
	x.result.States = len(x.worlds)
	// Whether the agent comes whenever it is let, or never at all: in the end there is rest.
	for _, comes := range []bool{true, false} {
		if err := x.rest(comes); err != nil {
			return x.result, err
		}
	}
	return x.result, nil
}

type search struct {
	tables Tables
	worlds []world
	index  map[world]int
	parent []int
	by     []name
	// ahead are the steps of each world that happen by themselves, without those that change nothing.
	ahead  [][]edge
	result Result
}

type edge struct {
	to   int
	kind kind
}

// meet answers the number of a world, and remembers how it was reached first.
func (x *search) meet(w world, from int, by name) int {
	if i, known := x.index[w]; known {
		return i
	}
	i := len(x.worlds)
	x.index[w] = i
	x.worlds, x.parent, x.by, x.ahead = append(x.worlds, w), append(x.parent, from), append(x.by, by), append(x.ahead, nil)
	return i
}

func (x *search) expand(i int) error {
	w := x.worlds[i]
	if err := stateRules(w); err != nil {
		return x.violation(err, i, nil)
	}
	x.result.Arrived = x.result.Arrived || w.away() && !w.home() && w.Hop[0].Acked
	x.result.Returned = x.result.Returned || w.Back && w.home() && !w.away() && w.Hop[1].Acked && w.Hop[1].Came
	for _, s := range x.tables.steps(w) {
		x.result.Transitions++
		if s.err != nil {
			return x.violation(s.err, i, &s.name)
		}
		to := x.meet(s.next, i, s.name)
		if s.kind != other && to != i {
			x.ahead[i] = append(x.ahead[i], edge{to, s.kind})
		}
	}
	return nil
}

// rest follows what happens by itself from every state. Nothing in it may go in a circle, and where it ends the rules of ends
// hold.
func (x *search) rest(comes bool) error {
	const (
		unseen = iota
		open
		done
	)
	mark := make([]uint8, len(x.worlds))
	type frame struct{ at, next int }
	for first := range x.worlds {
		if mark[first] != unseen {
			continue
		}
		mark[first] = open
		for stack := []frame{{first, 0}}; len(stack) > 0; {
			top := &stack[len(stack)-1]
			if top.next < len(x.ahead[top.at]) {
				e := x.ahead[top.at][top.next]
				top.next++
				switch {
				case e.kind == agent && !comes:
				case mark[e.to] == open:
					return x.violation(fmt.Errorf("it goes in a circle"), e.to, nil)
				case mark[e.to] == unseen:
					mark[e.to] = open
					stack = append(stack, frame{e.to, 0})
				}
				continue
			}
			if x.ends(top.at, comes) {
				x.result.Ends++
				if err := x.tables.endRules(x.worlds[top.at]); err != nil {
					return x.violation(err, top.at, nil)
				}
			}
			mark[top.at] = done
			stack = stack[:len(stack)-1]
		}
	}
	return nil
}

func (x *search) ends(i int, comes bool) bool {
	for _, e := range x.ahead[i] {
		if comes || e.kind != agent {
			return false
		}
	}
	return true
}

func (x *search) violation(rule error, at int, last *name) error {
	way := []string{fmt.Sprintf("%+v", x.worlds[at])}
	if last != nil {
		way = append([]string{last.String()}, way...)
	}
	for ; at > 0; at = x.parent[at] {
		way = append([]string{x.by[at].String()}, way...)
	}
	return &Violation{Rule: rule.Error(), Way: way}
}
