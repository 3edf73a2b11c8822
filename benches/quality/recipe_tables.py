"""x"""
def lines(found): raise SystemExit("later")
def markdown(found, about): return ""
