package front_test

import (
	"testing"

	"go.uber.org/goleak"

	"millrace/node/nodetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, nodetest.IgnoreFasthttp()...) }
