package cogniforge.mask_test

import data.cogniforge.mask

test_the_log_leaves_out_whom_it_concerns if mask.mask == {"/input/address", "/input/caller/user"}
