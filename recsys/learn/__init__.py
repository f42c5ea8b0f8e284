"""What models learn from and are judged by: collected tables go in, arrays and figures come out."""
