"""MuJoCo: a Panda with true kinematics, tabletop scenes and a target-pose end-effector controller."""
