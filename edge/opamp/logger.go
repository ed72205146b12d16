package opamp

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-hclog"
)

// quietLogger is opamp-go's logger. Whatever one agent does wrong is no error of the edge.
type quietLogger struct{ logger hclog.Logger }

func (l quietLogger) Debugf(_ context.Context, format string, v ...any) {
	if l.logger.IsTrace() {
		l.logger.Trace(fmt.Sprintf(format, v...))
	}
}

func (l quietLogger) Errorf(_ context.Context, format string, v ...any) {
	if l.logger.IsDebug() {
		l.logger.Debug(fmt.Sprintf(format, v...))
	}
}
