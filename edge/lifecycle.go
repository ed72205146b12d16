package edge

import (
	"context"
	"errors"
	"fmt"
)

// cleanups is the one stack that a failed start and Stop unwind alike, the newest first.
type cleanups struct{ stack []cleanup }

type cleanup struct {
	name string
	run  func(context.Context) error
}

func (c *cleanups) add(name string, run func(context.Context) error) {
	c.stack = append(c.stack, cleanup{name, run})
}

// unwind runs them all, whatever each says.
func (c *cleanups) unwind(ctx context.Context) error {
	var errs []error
	for len(c.stack) > 0 {
		last := c.stack[len(c.stack)-1]
		c.stack = c.stack[:len(c.stack)-1]
		if err := last.run(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", last.name, err))
		}
	}
	return errors.Join(errs...)
}
