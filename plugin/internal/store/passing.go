package store

import "context"

type passing struct{}

// InPassing is a context for whoever looks at every row once, as a sweep does: the Cache remembers none of them, since they
// would take the place of those that are in use.
func InPassing(ctx context.Context) context.Context {
	return context.WithValue(ctx, passing{}, true)
}

func isPassing(ctx context.Context) bool { return ctx.Value(passing{}) != nil }
