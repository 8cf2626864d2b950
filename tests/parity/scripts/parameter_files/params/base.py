from params import Params


def get_params():
    return [Params("base"), Params("svm", model="svm")]
