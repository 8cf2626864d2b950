def get_params():
    return []
